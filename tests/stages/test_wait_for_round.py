"""The stage wait_for_round: it waits for people, says what they have to do, and goes on by itself when their round is closed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest

from herdling.base.artifact import read_artifact, write_json_atomic
from herdling.base.comparison_records import read_comparisons
from herdling.base.decode import decode
from herdling.base.errors import SettingsError, Stopped
from herdling.base.progress import SilentProgress
from herdling.preference.place import preferences_of, store_url
from herdling.preference.store import Store
from herdling.recipe import Runner, decode_recipe
from herdling.stages.registry import StageRun
from herdling.stages.wait_for_round import WaitForRound
from tests.killing import run_killed
from tests.preference.desk import Clock, Desk

LIMIT = 60.0


class Told(SilentProgress):
    """Remembers notes and counts, and does something at each."""

    def __init__(self, act: Callable[[str], None] = lambda text: None) -> None:
        self.notes: list[str] = []
        self.counts: list[int] = []
        self.act = act

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.act(text)

    def update(self, done: int, **shown: Any) -> None:
        self.counts.append(done)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two folders that pass for models: what they are known by is all that is asked of them."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def desk(models: Path) -> Iterator[Desk]:
    clock, url = Clock(), store_url(models / "run")
    preferences_of(models / "run").mkdir(parents=True)
    store = Store(url, clock=clock)
    yield Desk.furnish(store, clock, url)
    store.close()


def waiting(models: Path, progress: Told, **settings: Any) -> tuple[WaitForRound, StageRun]:
    """Return the stage and its run, in the folder of a run."""
    folder = models / "run" / ".round_1.partial"
    folder.mkdir(parents=True, exist_ok=True)
    made = decode(WaitForRound, {"models": {"a": "a", "b": "b"}, "round": 1, **settings}, "stages.round_1")
    inputs = {name: models / name for name in ("a", "b")}
    return made, StageRun(name="round_1", folder=folder, seed=1, inputs=inputs, progress=progress)


def judge(desk: Desk, campaign: str, count: int) -> None:
    for _ in range(count):
        desk.judge(desk.next(campaign, desk.ann), desk.ann)


def test_it_goes_on_when_somebody_closes_the_round(models: Path, desk: Desk) -> None:
    campaign = desk.campaign(prompts=4)
    judge(desk, campaign, 3)

    def close(text: str) -> None:
        if "is open" in text:
            closer = Thread(target=desk.store.rounds.close, args=(campaign, preferences_of(models / "run")))
            closer.start()
            closer.join(LIMIT)

    told = Told(close)
    stage, run = waiting(models, told)
    stage.run(run)
    frozen = preferences_of(models / "run") / "helpful-01"
    for name in read_artifact(frozen).manifest["files"]:
        assert (run.folder / name).read_bytes() == (frozen / name).read_bytes()
    assert sum(len(list(read_comparisons(run.folder, split))) for split in ("train", "test")) == 3
    assert told.counts == [3]
    assert run.summary == {"comparisons": 3, "annotators": 1, "answers": 6, "answers_of_other_models": 6, "round": "helpful-01"}
    assert "6 of 6 judged answers are not of the models that this round names: a (3), b (3)" in told.notes[-1]


def test_it_says_how_to_begin_to_judge_and_to_close(models: Path) -> None:
    told = Told()
    stage, run = waiting(models, told, wait=False)
    with pytest.raises(Stopped, match=r"the campaign 'helpful' has not begun.*The same command waits on"):
        stage.run(run)
    assert f"herdling annotate {models / 'run'} --model a={models / 'a'} --model b={models / 'b'}." in told.notes[0]
    assert not preferences_of(models / "run").exists()  # to look is not to make

    preferences_of(models / "run").mkdir()
    clock, url = Clock(), store_url(models / "run")
    store = Store(url, clock=clock)
    desk = Desk.furnish(store, clock, url)
    judge(desk, desk.campaign(prompts=2), 2)
    with pytest.raises(Stopped, match=r"round helpful-01 is open.*add --close-round"):
        stage.run(run)
    later, run = waiting(models, told, round=2, wait=False)
    with pytest.raises(Stopped, match="round 2 of helpful opens when round 1 is closed"):
        later.run(run)
    other, run = waiting(models, told, campaign="safe", wait=False)
    with pytest.raises(Stopped, match=r"the campaign 'safe' has not begun.*--campaign FILE"):
        other.run(run)
    assert told.counts == [0, 2, 0, 0]
    store.close()


def test_ctrl_c_stops_the_waiting_and_nothing_of_what_people_judged(models: Path, desk: Desk) -> None:
    judge(desk, desk.campaign(prompts=2), 2)
    stage, run = waiting(models, Told())
    asked = iter([False, True])
    run.stop_requested = lambda: next(asked)
    with pytest.raises(Stopped, match="goes on by itself then"):
        stage.run(run)
    assert desk.store.rounds.rounds("helpful")[0].num_judgements == 2


def test_a_round_that_was_closed_without_its_folder_is_written_anew(models: Path, desk: Desk) -> None:
    judge(desk, desk.campaign(prompts=2), 2)
    elsewhere = desk.store.rounds.close("helpful", models / "elsewhere")
    stage, run = waiting(models, Told())
    stage.run(run)
    assert read_artifact(preferences_of(models / "run") / "helpful-01").fingerprint == elsewhere.fingerprint


def test_the_artifact_has_the_fingerprint_of_the_round(models: Path, desk: Desk) -> None:
    judge(desk, desk.campaign(prompts=2), 2)
    frozen = desk.store.rounds.close("helpful", preferences_of(models / "run"))
    wanted = {"kind": "wait_for_round", "models": {"a": str(models / "a"), "b": str(models / "b")}, "round": 1}
    artifacts = Runner(recipe=decode_recipe({"name": "run", "stages": {"round_1": wanted}}), runs=models).run()
    assert artifacts["round_1"].kind == "comparisons"
    assert artifacts["round_1"].fingerprint == frozen.fingerprint


def _worker(models: Path, done: Path) -> None:
    stage, run = waiting(models, Told())
    stage.run(run)
    write_json_atomic(done, run.summary)


def test_it_can_be_killed_while_it_waits(models: Path, desk: Desk) -> None:
    judge(desk, desk.campaign(prompts=3), 3)
    done = models / "done.json"
    closer = Timer(1.5, desk.store.rounds.close, ("helpful", preferences_of(models / "run")))
    closer.start()
    killed = run_killed(_worker, (models, done), done, kills=2, longest=0.7)  # all of them before the round is closed
    closer.join(LIMIT)
    assert killed == 2
    assert json.loads(done.read_text())["comparisons"] == 3


def test_a_password_is_not_written_into_a_manifest(models: Path) -> None:
    stage, run = waiting(models, Told(), store="postgresql://ann:secret@host/name")
    with pytest.raises(SettingsError, match=r"holds a password.*PGPASSWORD"):
        stage.run(run)
