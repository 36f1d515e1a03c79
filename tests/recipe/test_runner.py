from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from herdling.base.artifact import read_artifact
from herdling.base.errors import LineageError, LockedError, SettingsError, Stopped
from herdling.recipe import Runner, decode_recipe
from herdling.recipe.lineage import State
from herdling.recipe.runner import locked


def recipe(words: tuple[str, ...] = ("x", "y", "z"), seed: int = 1, **more: Any) -> Any:
    stages = {"words": {"kind": "toy_words", "words": list(words), **more}, "count": {"kind": "toy_count", "of": ["@words"]}}
    return decode_recipe({"name": "toy", "seed": seed, "stages": stages})


def test_a_second_run_makes_nothing_again(tmp_path: Path) -> None:
    first = Runner(recipe=recipe(), runs=tmp_path).run()
    before = (tmp_path / "toy/count/manifest.json").stat().st_mtime_ns
    said: list[str] = []
    second = Runner(recipe=recipe(), runs=tmp_path, say=said.append).run()
    assert (tmp_path / "toy/count/manifest.json").stat().st_mtime_ns == before
    assert [line.split(":")[0] for line in said] == ["1/2 words", "2/2 count"]
    assert all("done before" in line for line in said)
    assert second["count"].fingerprint == first["count"].fingerprint
    assert (tmp_path / "toy/count/count.txt").read_text() == "3"


def test_other_settings_are_refused_with_the_difference_field_by_field(tmp_path: Path) -> None:
    Runner(recipe=recipe(), runs=tmp_path).run()
    with pytest.raises(LineageError, match=r"words\.1|words: was \['x', 'y', 'z'\], now \['x'\]") as caught:
        Runner(recipe=recipe(words=("x",)), runs=tmp_path).run()
    assert "--force words" in str(caught.value)
    assert (tmp_path / "toy/words/words.txt").read_text() == "x y z"


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    Runner(recipe=recipe(), runs=tmp_path).run()
    with pytest.raises(LineageError, match="seed: was 1, now 2"):
        Runner(recipe=recipe(seed=2), runs=tmp_path).run()


def test_force_makes_the_stage_and_what_follows_again(tmp_path: Path) -> None:
    Runner(recipe=recipe(), runs=tmp_path).run()
    Runner(recipe=recipe(words=("x",)), runs=tmp_path, again=["words"]).run()
    assert (tmp_path / "toy/count/count.txt").read_text() == "1"


def test_a_setting_that_is_newer_than_the_result_redoes_nothing_at_its_default(tmp_path: Path) -> None:
    stages = {"words": {"kind": "toy_words"}}
    Runner(recipe=decode_recipe({"name": "toy", "stages": stages}), runs=tmp_path).run()
    path = tmp_path / "toy/words/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["words"]  # as if made before there was such a setting
    path.write_text(json.dumps(manifest | {"key": "of older settings"}))
    assert [state for _, state, _ in Runner(recipe=decode_recipe({"name": "toy", "stages": stages}), runs=tmp_path).plan()] == [State.DONE]
    stages["words"] = {"kind": "toy_words", "words": ["x"]}
    _, state, lines = next(iter(Runner(recipe=decode_recipe({"name": "toy", "stages": stages}), runs=tmp_path).plan()))
    assert state == State.DIFFERS
    assert lines == ["words: was '(not set)', now ['x']"]


def test_a_volatile_setting_does_not_redo_a_stage(tmp_path: Path) -> None:
    Runner(recipe=recipe(), runs=tmp_path).run()
    states = [state for _, state, _ in Runner(recipe=recipe(stop_after=50), runs=tmp_path).plan()]
    assert states == [State.DONE, State.DONE]


def test_a_plan_tells_of_files_that_are_not_there_and_goes_on(tmp_path: Path) -> None:
    stages = {"first": {"kind": "toy_count", "of": ["nowhere/data"]}, "words": {"kind": "toy_words"}, "count": {"kind": "toy_count", "of": ["@words"]}}
    plan = Runner(recipe=decode_recipe({"name": "toy", "stages": stages}), runs=tmp_path).plan()
    assert [(name, state) for name, state, _ in plan] == [("first", State.TO_DO), ("words", State.TO_DO), ("count", State.TO_DO)]
    assert plan[0][2] == ["stages.first.of[0]: nowhere/data: no such file or folder. Name a stage as @NAME, or an existing path"]
    with pytest.raises(SettingsError, match="nowhere/data: no such file or folder"):
        Runner(recipe=decode_recipe({"name": "toy", "stages": stages}), runs=tmp_path).run()


def test_an_interrupted_stage_goes_on_from_what_it_had(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Runner(recipe=recipe(stop_after=2), runs=tmp_path).run()
    assert not (tmp_path / "toy/words").exists()
    assert [state for _, state, _ in Runner(recipe=recipe(), runs=tmp_path).plan()] == [State.INTERRUPTED, State.TO_DO]
    artifacts = Runner(recipe=recipe(), runs=tmp_path).run()
    assert artifacts["words"].manifest["summary"]["resumed_from"] == 2


def test_an_interrupted_stage_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Runner(recipe=recipe(stop_after=2), runs=tmp_path).run()
    with pytest.raises(LineageError, match="made from other settings"):
        Runner(recipe=recipe(words=("other",)), runs=tmp_path).run()


def test_a_changed_input_is_noticed_before_it_is_used(tmp_path: Path) -> None:
    Runner(recipe=recipe(), runs=tmp_path).run(["words"])
    (tmp_path / "toy/words/words.txt").write_text("x y !")
    with pytest.raises(LineageError, match=r"words\.txt: is not what words wrote"):
        Runner(recipe=recipe(), runs=tmp_path).run()


def test_inputs_made_with_two_tokenizers_are_refused(tmp_path: Path) -> None:
    stages = {
        "one": {"kind": "toy_words", "tokenizer": "a" * 64},
        "two": {"kind": "toy_words", "tokenizer": "b" * 64},
        "count": {"kind": "toy_count", "of": ["@one", "@two"]},
    }
    with pytest.raises(LineageError, match=r"@two was made with the tokenizer bbbbbbbbbbbb, @one with aaaaaaaaaaaa"):
        Runner(recipe=decode_recipe({"name": "toy", "stages": stages}), runs=tmp_path).run()


def test_two_runs_in_one_folder_are_refused_while_the_first_lives(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from herdling.recipe.runner import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(LockedError, match=f"process {holder.pid}"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):  # kill -9 frees the lock
        pass


def test_the_time_of_a_killed_attempt_is_counted_up_to_its_last_file(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Runner(recipe=recipe(stop_after=2), runs=tmp_path).run()
    # As kill -9 leaves it: the record of an attempt that began 100 s before its last file was written, after 7 s of earlier ones.
    record = tmp_path / "toy/.words.partial/stage.json"
    newest = (tmp_path / "toy/.words.partial/words.txt").stat().st_mtime
    record.write_text(json.dumps({**json.loads(record.read_text()), "seconds": 7.0, "began": newest - 100}))
    os.utime(record, (newest - 100, newest - 100))
    artifacts = Runner(recipe=recipe(), runs=tmp_path).run()
    assert artifacts["words"].manifest["seconds"] == pytest.approx(107, abs=2)


def test_a_manifest_says_from_what_how_and_when(tmp_path: Path) -> None:
    Runner(recipe=recipe(), runs=tmp_path).run()
    manifest = read_artifact(tmp_path / "toy/count").manifest
    assert manifest["status"] == "done"
    assert manifest["seconds"] >= 0
    assert manifest["inputs"] == {"@words": read_artifact(tmp_path / "toy/words").fingerprint}
    assert list(manifest["files"]) == ["count.txt"]
    assert json.loads((tmp_path / "toy/recipe.json").read_text())["stages"]["words"]["words"] == ["x", "y", "z"]
