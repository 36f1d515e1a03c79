"""The stage select_dialogs: good by either label, unlike each other, every other dialog with its reason; a kill changes no byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError, Stopped
from herdling.base.records import dialog_from_row, dialog_to_row, read_jsonl, write_jsonl
from herdling.generate.loaded import load
from herdling.stages.select_dialogs import SelectDialogs, mark_good
from herdling.types import Dialog
from tests.data.toy_tokens import dialog
from tests.killing import run_killed
from tests.stages.toy_training import stage_run

SETTINGS: dict[str, Any] = {"data": "data", "reward": "reward", "embedder": "chat", "max_cosine": 0.999, "top_share": 0.5, "batch_size": 16}


@pytest.fixture
def inputs(tmp_path: Path, obedient: Path) -> Path:
    """Sixty dialogs, of which a third stands there twice."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("chat", "reward"):
        (folder / name).symlink_to(obedient / name)
    given = [dialog_from_row(row, "x") for _, row in read_jsonl(obedient / "data" / "dialogs" / "train.jsonl")][:40]
    twice = [Dialog(id=f"{one.id} again", messages=one.messages) for one in given[:20]]
    write_jsonl(folder / "data" / "dialogs" / "train.jsonl", map(dialog_to_row, [*given, *twice]))
    write_jsonl(folder / "data" / "dialogs" / "validation.jsonl", map(dialog_to_row, given[:3]))
    return folder


def selected(inputs: Path, folder: Path, **settings: Any) -> tuple[list[Dialog], list[dict[str, Any]], dict[str, Any]]:
    """Run the stage; return the dialogs kept, the labels and the ledger."""
    run = stage_run("select_dialogs", inputs, folder)
    decode(SelectDialogs, {**SETTINGS, **settings}, "stages.select_dialogs").run(run)
    kept = [dialog_from_row(row, "x") for _, row in read_jsonl(folder / "dialogs" / "train.jsonl")]
    return kept, [row for _, row in read_jsonl(folder / "labels.jsonl")], json.loads((folder / "ledger.json").read_text())


def test_the_dialogs_of_the_highest_rewards_are_kept_once(tmp_path: Path, inputs: Path) -> None:
    kept, labels, ledger = selected(inputs, tmp_path / "out")
    given = [dialog_from_row(row, "x") for _, row in read_jsonl(inputs / "data" / "dialogs" / "train.jsonl")]
    rewards = load(inputs / "reward").score_batch(given)
    threshold = sorted(rewards)[-30]
    assert {one.id for one in kept} <= {one.id for one, reward in zip(given, rewards, strict=True) if reward >= threshold - 1e-5}
    assert len({one.messages for one in kept}) == len(kept)  # no dialog twice
    dropped = {reason: entry["count"] for reason, entry in ledger["dropped"].items()}
    assert set(dropped) == {"neither the reward nor the judge calls it good", "nearly the same as a better one"}
    assert ledger["rows_in"] == 60 == ledger["kept"] + sum(dropped.values())
    assert [label["id"] for label in labels if not label["why"]] == [one.id for one in kept]
    assert all("vector" not in label for label in labels)
    assert len(list(read_jsonl(tmp_path / "out" / "dialogs" / "validation.jsonl"))) == 3


def test_without_an_embedder_dialogs_that_are_alike_stay(tmp_path: Path, inputs: Path) -> None:
    kept, _, _ = selected(inputs, tmp_path / "out", embedder=None, max_cosine=None)
    assert 30 <= len(kept) <= 32  # equal rewards may share the last place


def test_without_a_reward_the_first_of_equal_dialogs_stays(tmp_path: Path, inputs: Path) -> None:
    kept, _, _ = selected(inputs, tmp_path / "out", reward=None, num_clusters=1, max_cosine=1.0 - 1e-6)
    assert not any("again" in one.id for one in kept)


def test_a_judge_that_cannot_grade_makes_nothing_good(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(DataError, match=r"no dialog of 60 is left"):
        selected(inputs, tmp_path / "out", reward=None, judge="chat", embedder=None, max_cosine=None, batch_size=60)


def test_a_dialog_that_a_model_cannot_read_is_dropped_by_name(tmp_path: Path, inputs: Path) -> None:
    write_jsonl(inputs / "long" / "dialogs" / "train.jsonl", [dialog_to_row(dialog("item " * 200, "key 1.", name="long"))])
    write_jsonl(inputs / "long" / "dialogs" / "validation.jsonl", ())
    kept, labels, ledger = selected(inputs, tmp_path / "out", data={"a": "data", "b": "long"}, top_share=1.0)
    assert ledger["dropped"]["longer than a model's context"] == {"count": 1, "examples": ["long"]}
    assert "long" not in {one.id for one in kept}
    assert labels[-1]["id"] == "long"


def test_good_is_what_either_label_calls_good_by_hand() -> None:
    labels: list[dict[str, Any]] = [
        {"why": "", "reward": 4.0, "quality": 1.0, "difficulty": 3, "intentions": 2},
        {"why": "", "reward": 1.0, "quality": 3.0, "difficulty": 1, "intentions": 0},
        {"why": "", "reward": 2.0, "quality": 2.0, "difficulty": None, "intentions": 1},
        {"why": "", "reward": 3.0, "quality": None, "difficulty": 2, "intentions": 0},
        {"why": "longer than a model's context"},
    ]
    mark_good(labels, 0.25)
    assert [bool(label["why"]) for label in labels] == [False, False, True, True, True]
    assert [label["good_by"] for label in labels[:4]] == [["reward"], ["judge"], [], []]
    assert [label["quality_rank"] for label in labels[:4]] == [1.0, 1.0, pytest.approx(2 / 3), 0.75]
    assert [label["difficulty_points"] for label in labels[:4]] == [5, 1, 2, 2]


def loud(inputs: Path) -> None:
    """Add three dialogs with many exclamation marks, and two thirds of the sixty with an apology."""
    rows = [row for _, row in read_jsonl(inputs / "data" / "dialogs" / "train.jsonl")]
    for number, row in enumerate(rows):
        if number % 3:
            row["messages"][-1]["content"] += " I'm sorry"
    further = [dialog_to_row(dialog("item 1", f"key {number}!!!", name=f"loud {number}")) for number in range(3)]
    write_jsonl(inputs / "data" / "dialogs" / "train.jsonl", [*rows, *further])


def test_what_has_too_many_marks_goes_unlabelled_and_apologies_keep_their_share(tmp_path: Path, inputs: Path) -> None:
    loud(inputs)
    overuse = {"max_exclamations": 2, "max_share": 0.25}
    kept, labels, ledger = selected(inputs, tmp_path / "out", overuse=overuse, top_share=1.0, embedder=None, max_cosine=None)
    dropped = {reason: entry["count"] for reason, entry in ledger["dropped"].items()}
    # Twenty have no apology, so six may stand beside them: 6 of 26.
    assert dropped == {"too many exclamation marks in an answer": 3, "an overused phrase, beyond its share": 34}
    assert sum("sorry" in one.messages[-1].content for one in kept) == 6
    assert len(kept) == 26
    assert ledger["rows_in"] == 63
    assert ledger["counts"]["with an overused phrase, of those read"] == 40
    assert ledger["counts"]["with an overused phrase, of those kept"] == 6
    rewards: dict[bool, list[float]] = {True: [], False: []}
    for one, label in zip([row for _, row in read_jsonl(inputs / "data" / "dialogs" / "train.jsonl")], labels, strict=True):
        if "sorry" in one["messages"][-1]["content"]:
            rewards[bool(label["why"])].append(label["reward"])
    assert min(rewards[False]) >= max(rewards[True])  # the best of those that apologize stay
    assert all("reward" not in label for label in labels[-3:])


def test_dialogs_that_are_mended_are_kept_as_mended(tmp_path: Path, inputs: Path) -> None:
    loud(inputs)
    overuse = {"max_exclamations": 1, "excess": "mend"}
    kept, _, ledger = selected(inputs, tmp_path / "out", overuse=overuse, top_share=1.0, embedder=None, max_cosine=None)
    assert [one.messages[-1].content for one in kept[-3:]] == ["key 0!", "key 1!", "key 2!"]
    assert ledger["counts"]["dialogs mended"] == 3
    assert ledger["dropped"] == {}


def test_the_mix_is_counted_by_topic_quality_and_difficulty(tmp_path: Path, inputs: Path) -> None:
    _, _, ledger = selected(inputs, tmp_path / "out")
    tally = {(row["topic"], row["quality"], row["difficulty"]): (row["before"], row["after"]) for row in ledger["counts"]["mix by quality and difficulty"]}
    assert tally[("all", "neither", "not graded")][1] == 0
    assert tally[("all", "reward alone", "not graded")][1] == ledger["kept"]
    assert sum(before for before, _ in tally.values()) == 60


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    selected(inputs, folder)
    (folder / "done").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "done"}


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "killed").mkdir()
    run_killed(_worker, (inputs, tmp_path / "straight"), tmp_path / "straight" / "done", kills=0)
    assert run_killed(_worker, (inputs, tmp_path / "killed"), tmp_path / "killed" / "done", kills=2, longest=0.6) > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")


def test_what_was_labelled_is_not_labelled_again(tmp_path: Path, inputs: Path) -> None:
    stops = iter([False, True])
    run = stage_run("select_dialogs", inputs, tmp_path / "out", stop_requested=lambda: next(stops))
    with pytest.raises(Stopped, match="the same command goes on"):
        decode(SelectDialogs, SETTINGS, "stages.select_dialogs").run(run)
    (saved,) = (tmp_path / "out" / "chunks" / "labels").iterdir()
    saved.write_text(saved.read_text().replace('"topic": "all"', '"topic": "saved"'))
    assert any(label["topic"] == "saved" for label in selected(inputs, tmp_path / "out")[1])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reward": None, "embedder": None, "max_cosine": None}, "nothing to select by"),
        ({"max_cosine": None}, "embedder and max_cosine go together"),
        ({"topics": ["a"]}, "topics without a judge"),
        ({"overuse": {"max_share": 0.1, "phrases": []}}, "overuse.phrases: names none"),
    ],
)
def test_settings_that_say_too_little_are_errors(tmp_path: Path, inputs: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        selected(inputs, tmp_path / "out", **settings)
