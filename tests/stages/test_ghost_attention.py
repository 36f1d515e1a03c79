"""Ghost Attention, step by step: the instruction in every message to sample with, in the first to train on, nothing but the last answer learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.comparison_records import read_comparisons
from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError, Stopped
from herdling.base.records import dialog_from_row, read_jsonl
from herdling.data.constraints import Constraint, Instruction, read_constraints
from herdling.generate.loaded import load
from herdling.stages.ghost_attention import GhostAttention, every_turn, first_turn_only
from herdling.types import Dialog
from tests.data.toy_tokens import dialog
from tests.killing import run_killed
from tests.stages.toy_training import LOOP, run_stage, stage_run

FORM = {"full": "Be {x}.", "short": "{x}.", "values": {"loud": "!$", "shiny": r"\*$", "shy": r"\?$"}, "held_out": ["shy"]}
SETTINGS: dict[str, Any] = {
    "model": "chat",
    "data": "data",
    "constraints": {"form": FORM},
    "max_prompts": 40,
    "max_held_out": 8,
    "turns": [2, 3],
    "without": r"\.",
    "max_tokens": 12,
    "batch_size": 10,
    "shortened": 0.0,
}


def ghost(inputs: Path, folder: Path, **settings: Any) -> list[Dialog]:
    """Run the stage; return its training dialogs."""
    run = stage_run("ghost_attention", inputs, folder)
    decode(GhostAttention, {**SETTINGS, **settings}, "stages.ghost_attention").run(run)
    return dialogs(folder, "train")


def dialogs(folder: Path, split: str) -> list[Dialog]:
    return [dialog_from_row(row, "x") for _, row in read_jsonl(folder / "dialogs" / f"{split}.jsonl")]


def ledger_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "ledger.json").read_text())
    return read


def told(one: Dialog) -> str:
    """The end of an answer that keeps to the instruction of a dialog's first message."""
    return {"Be loud. ": "!", "Be shiny. ": "*"}[one.messages[0].content[: one.messages[0].content.index(".") + 2]]


LOUD = Constraint(kind="form", value="loud", full="Be loud.", short="Loud.", pattern="!$", probes=(), held_out=False)


def test_the_two_forms_of_a_dialog_by_hand() -> None:
    told_once = Instruction(constraints=(LOUD,), shortened=True)
    made = dialog("a", "b", "c", "d", "e", "f")
    assert [message.content for message in every_turn(made, told_once, 3).messages] == ["Loud. a", "b", "Loud. c", "d", "Loud. e"]
    trained = first_turn_only(made, told_once)
    assert [message.content for message in trained.messages] == ["Loud. a", "b", "c", "d", "e", "f"]
    assert trained.supervised == "last"


def test_the_instruction_is_left_in_the_first_message_and_kept_to_in_the_last_answer(tmp_path: Path, obedient: Path) -> None:
    made = ghost(obedient, tmp_path / "out")
    assert len(made) >= 20
    for one in made:
        assert one.supervised == "last"
        assert len(one.messages) in (4, 6)
        assert one.messages[-1].content.endswith(told(one))
        assert all(message.content.startswith("item") for message in one.messages[2::2])
        assert all(message.content.endswith(".") for message in one.messages[1:-1:2])  # the answers of the data, which never saw the instruction
    assert {told(one) for one in made} == {"!", "*"}
    assert dialogs(tmp_path / "out", "validation")
    for split in ("train", "test"):
        assert not list(read_comparisons(tmp_path / "out", split))


def test_what_is_held_out_is_named_in_no_dialog_and_marked_for_the_evaluation(tmp_path: Path, obedient: Path) -> None:
    made = ghost(obedient, tmp_path / "out")
    assert not any("shy" in message.content for one in (*made, *dialogs(tmp_path / "out", "validation")) for message in one.messages)
    assert {one.value: one.held_out for one in read_constraints(tmp_path / "out")} == {"loud": False, "shiny": False, "shy": True}


def test_every_dialog_is_kept_or_has_its_reason(tmp_path: Path, obedient: Path) -> None:
    made = ghost(obedient, tmp_path / "out", temperature=2.0)
    ledger = ledger_of(tmp_path / "out")
    dropped = sum(entry["count"] for entry in ledger["dropped"].values())
    assert ledger["rows_in"] == 48 == ledger["kept"] + dropped
    assert ledger["kept"] == len(made) + len(dialogs(tmp_path / "out", "validation"))
    assert "no sample keeps to the instruction" in ledger["dropped"]
    drawn = ledger["counts"]["by constraint"]
    assert sum(one["drawn"] for one in drawn.values()) == 48
    assert sum(one["kept"] for one in drawn.values()) == ledger["kept"]
    assert ledger["counts"]["dialogs passed over: has an instruction of its own"] > 0


def test_with_more_samples_more_dialogs_are_kept(tmp_path: Path, obedient: Path) -> None:
    one, four = (len(ghost(obedient, tmp_path / str(count), temperature=2.0, num_samples=count)) for count in (1, 4))
    assert one < four


def test_all_answers_can_be_sampled_so_that_the_dialog_keeps_to_the_instruction_throughout(tmp_path: Path, obedient: Path) -> None:
    made = ghost(obedient, tmp_path / "out", answers="all")
    assert made
    for one in made:
        assert all(message.content.endswith(told(one)) for message in one.messages[1::2])
        assert one.supervised == "last"


def test_a_dialog_ends_before_its_first_answer_that_breaks_the_instruction_and_its_answers_can_all_be_learned(tmp_path: Path, obedient: Path) -> None:
    settings: dict[str, Any] = {"turns": [4, 4], "temperature": 2.0}
    made = ghost(obedient, tmp_path / "all", answers="all", learned="all", **settings)
    lengths = {len(one.messages) // 2 for one in made}
    assert lengths <= {2, 3, 4}
    assert lengths & {2, 3}
    for one in made:
        assert one.supervised == "all"
        assert all(message.content.endswith(told(one)) for message in one.messages[1::2])
    ledger = ledger_of(tmp_path / "all")
    everything = [*made, *dialogs(tmp_path / "all", "validation")]
    assert ledger["counts"]["dialogs cut before an answer that could not be taken"] == sum(len(one.messages) < 8 for one in everything)


def test_answers_that_were_not_sampled_cannot_be_learned() -> None:
    with pytest.raises(SettingsError, match='Set answers = "all" too'):
        decode(GhostAttention, {**SETTINGS, "learned": "all"}, "stages.ghost_attention")


def test_dialogs_of_several_turns_are_taken_as_they_are_where_no_number_of_turns_is_asked_for(tmp_path: Path, obedient: Path) -> None:
    given = {tuple(message.content for message in one.messages[:-1]) for one in dialogs(obedient / "data", "train") if len(one.messages) > 2}
    made = ghost(obedient, tmp_path / "out", turns=None)
    assert 0 < len(made) <= 40
    for one in made:
        messages = [message.content for message in one.messages[:-1]]
        assert (messages[0].removeprefix("Be loud. ").removeprefix("Be shiny. "), *messages[1:]) in given


def test_among_the_samples_that_keep_to_it_the_reward_chooses(tmp_path: Path, obedient: Path) -> None:
    without = {one.id: one for one in ghost(obedient, tmp_path / "without", temperature=2.0, num_samples=8)}
    chosen = {one.id: one for one in ghost(obedient, tmp_path / "chosen", temperature=2.0, num_samples=8, rewards={"helpfulness": "reward"})}
    assert set(chosen) == set(without)
    assert any(chosen[name].messages[-1] != without[name].messages[-1] for name in chosen)
    judge = load(obedient / "reward")
    for name, one in chosen.items():
        text = one.messages[0].content.split(". ")[0] + "."
        instruction = Instruction(constraints=(Constraint(**{**_fields(LOUD), "full": text}),))
        asked = every_turn(Dialog(id=name, messages=_plain(one)), instruction, len(one.messages) // 2)
        scores = judge.score_batch([Dialog(id=name, messages=(*asked.messages, made.messages[-1])) for made in (one, without[name])])
        assert scores[0] >= scores[1] - 1e-5


def _fields(constraint: Constraint) -> dict[str, Any]:
    return {name: getattr(constraint, name) for name in Constraint.__dataclass_fields__}


def _plain(one: Dialog) -> Any:
    first = one.messages[0]
    return (type(first)(role="user", content=first.content.split(". ")[1]), *one.messages[1:])


def test_prompts_longer_than_the_context_are_counted_and_not_cut(tmp_path: Path, obedient: Path) -> None:
    ghost(obedient, tmp_path / "out", turns=[2, 16])
    assert ledger_of(tmp_path / "out")["dropped"]["prompt longer than the context"]["count"] > 0


def test_what_it_makes_is_trained_together_with_other_dialogs(tmp_path: Path, obedient: Path) -> None:
    ghost(obedient, tmp_path / "out" / "ghost")
    for name in ("model", "data"):
        (tmp_path / "out" / name).symlink_to(obedient / name)
    loop = {**LOOP, "validations": 1, "checkpoint": {"every_seconds": 60.0}}
    run_stage("sft", tmp_path / "out", tmp_path / "tuned", data={"old": "data", "new": "ghost"}, sequence_length=192, epochs=1, loop=loop)
    ledger = ledger_of(tmp_path / "tuned")
    old = sum(len(one.messages) // 2 for one in dialogs(obedient / "data", "train"))
    assert ledger["counts"]["answers"] == old + len(dialogs(tmp_path / "out" / "ghost", "train"))


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    ghost(inputs, folder)
    (folder / "done").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "done"}


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, obedient: Path) -> None:
    (tmp_path / "killed").mkdir()
    run_killed(_worker, (obedient, tmp_path / "straight"), tmp_path / "straight" / "done", kills=0)
    killed = run_killed(_worker, (obedient, tmp_path / "killed"), tmp_path / "killed" / "done", kills=2)
    assert killed > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
    assert "chunks" not in {path.name for path in (tmp_path / "straight").iterdir()}


def test_what_was_saved_is_not_sampled_again(tmp_path: Path, obedient: Path) -> None:
    stops = iter([False, False, True])
    run = stage_run("ghost_attention", obedient, tmp_path / "out", stop_requested=lambda: next(stops))
    with pytest.raises(Stopped, match="the same command goes on"):
        decode(GhostAttention, SETTINGS, "stages.ghost_attention").run(run)
    saved = sorted((tmp_path / "out" / "chunks" / "train").iterdir())
    assert [path.name for path in saved] == ["00000.jsonl", "00001.jsonl"]
    for path in saved:
        path.write_text(path.read_text().replace("key ", "kept "))
    assert any("kept" in one.messages[-1].content for one in ghost(obedient, tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"constraints": {"form": {**FORM, "held_out": ["loud", "shiny", "shy"]}}}, SettingsError, "every value is held out"),
        ({"constraints": {"form": {**FORM, "values": {"loud": "never$"}, "held_out": []}}}, DataError, "no dialog is left to train on: no sample keeps"),
        ({"without": "item"}, DataError, "no plain dialog to put an instruction before"),
        ({"turns": [3, 2]}, SettingsError, "the smaller first"),
        ({"rewards": {"safety": "reward"}}, SettingsError, "helpfulness: is missing"),
    ],
)
def test_settings_that_leave_nothing_to_do_say_so(tmp_path: Path, obedient: Path, settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ghost(obedient, tmp_path / "out", **settings)
