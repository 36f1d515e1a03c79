"""The stage collect: two variants answer, the simulated annotator judges, every pair set aside has its reason, and a kill changes no byte."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.comparison_records import fault, read_comparisons
from herdling.base.decode import decode
from herdling.base.errors import DataError, FormatError, SettingsError, Stopped
from herdling.base.records import dialog_to_row, write_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.stages.collect import Collect
from herdling.starter.refusals import HARMFUL_ANSWER
from herdling.starter.taste import AnnotatorConfig, bayes_limit, judge
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Comparison, Dialog, Message
from tests.killing import run_killed
from tests.stages.toy_training import MODEL, run_stage, stage_run

CONTEXT = 160
LOOP = {"device": "cpu", "dtype": "float32", "micro_batch_tokens": 2048, "validations": 1}
SETTINGS: dict[str, Any] = {
    "models": {"late": "late", "early": "early"},
    "data": "data",
    "num_comparisons": 60,
    "temperatures": [0.5, 1.2, 2.5],
    "max_tokens": 16,
    "test_share": 0.3,
    "batch_size": 10,
}


def toy_dialogs() -> Iterator[Dialog]:
    """Dialogs of one to three turns, some that ask for harm."""
    chance = random.Random(0)
    for number in range(80):
        messages: list[Message] = []
        for _ in range(chance.randint(1, 3)):
            harmful = chance.random() < 0.3
            asked = f"steal the {chance.choice(['car', 'key', 'bike'])} {number}" if harmful else f"the item {number}"
            messages += [Message(role="user", content=asked), Message(role="assistant", content=HARMFUL_ANSWER if harmful else f"a key {number % 7}.")]
        yield Dialog(id=str(number), messages=tuple(messages))


def long_dialogs() -> Iterator[Dialog]:
    """Dialogs whose prompts nearly fill the context, or are longer: a 9 is a token, the frame of a prompt some 30 more."""
    for length in range(CONTEXT - 40, CONTEXT):
        asked = Message(role="user", content="9" * length)
        yield Dialog(id=f"long {length}", messages=(asked, Message(role="assistant", content="a key 1.")))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, a base model, and two chat models that were fine-tuned from it for longer and for shorter."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("inputs")
    made = list(toy_dialogs())
    tokenizer = train_byte_level_bpe((message.content for dialog in made for message in dialog.messages), 330)
    model = Llama(LlamaConfig(**{**MODEL, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": CONTEXT}))
    model.init_weights(1)
    save_model(folder / "model", model, tokenizer, None)
    write_jsonl(folder / "data" / "dialogs" / "train.jsonl", map(dialog_to_row, made))
    write_jsonl(folder / "data" / "dialogs" / "validation.jsonl", ())
    for name, epochs in (("late", 24), ("early", 10)):
        run_stage("sft", folder, folder / name, epochs=epochs, sequence_length=CONTEXT, batch_rows=8, optimizer={"lr": 1e-2}, loop=LOOP)
        (folder / name / "done").unlink()
    write_jsonl(folder / "long" / "dialogs" / "train.jsonl", map(dialog_to_row, [*made, *long_dialogs()]))
    return folder


def collect(inputs: Path, folder: Path, **settings: Any) -> list[Comparison]:
    """Run the stage; return the comparisons of both splits."""
    run = stage_run("collect", inputs, folder)
    decode(Collect, {**SETTINGS, **settings}, "stages.collect").run(run)
    return [one for split in ("train", "test") for one in read_comparisons(folder, split)]


def ledger_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "ledger.json").read_text())
    return read


def test_each_comparison_has_two_variants_at_two_temperatures_and_is_marked_as_simulated(tmp_path: Path, inputs: Path) -> None:
    made = collect(inputs, tmp_path / "out")
    assert len(made) == 60
    for one in made:
        left, right = one.responses
        assert {left.model, right.model} == {"late", "early"}
        assert left.model_fingerprint != right.model_fingerprint
        assert left.sampling is not None
        assert right.sampling is not None
        assert left.sampling.temperature != right.sampling.temperature
        assert (one.simulated, one.annotator, one.round, one.safe) == (True, "simulated", "1", None)
        assert fault(one) is None
    assert 0.2 < sum(one.responses[0].model == "late" for one in made) / 60 < 0.8  # sides are shuffled


def test_every_judgement_can_be_made_again_from_its_gold_rewards_and_its_seed(tmp_path: Path, inputs: Path) -> None:
    for one in collect(inputs, tmp_path / "out"):
        gold = one.metadata["gold"]
        judged = judge(gold[0] - gold[1], AnnotatorConfig(), one.metadata["seed"])
        assert (judged.first_chosen, judged.rating) == (one.ranking == (0, 1), one.rating)


def test_a_dialog_goes_on_behind_the_chosen_answer(tmp_path: Path, inputs: Path) -> None:
    made = {one.id: one for one in collect(inputs, tmp_path / "all", multi_turn=1.0)}
    later = [one for one in made.values() if one.turn > 1]
    assert later
    for one in later:
        slot, turn = one.id.split("/")
        before = made[f"{slot}/{int(turn) - 1}"]
        assert one.dialog.messages[:-1] == (*before.dialog.messages, before.responses[before.judged[0]].message)
    assert not [one for one in collect(inputs, tmp_path / "none", multi_turn=0.0) if one.turn > 1]


def test_openings_of_the_test_split_stand_in_no_training_comparison(tmp_path: Path, inputs: Path) -> None:
    collect(inputs, tmp_path / "out")
    sides = [{one.dialog.messages[0].content for one in read_comparisons(tmp_path / "out", split)} for split in ("train", "test")]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_a_safety_campaign_labels_every_answer_and_leaves_out_unsafe_choices(tmp_path: Path, inputs: Path) -> None:
    made = collect(inputs, tmp_path / "out", campaign="safety", annotator={"temperature": 6.0})
    ledger = ledger_of(tmp_path / "out")
    assert all(one.safe is not None and len(one.safe) == 2 for one in made)
    assert not [one for one in made if one.safe is not None and one.safe[one.ranking[1]] and not one.safe[one.ranking[0]]]
    assert ledger["dropped"]["unsafe response chosen"]["count"] > 0
    assert sum(ledger["counts"]["safety labels"].values()) == len(made)
    assert {one.metadata["group"] for one in made} == {"adversarial", "harmless"}


def test_an_edit_stands_above_the_chosen_answer(tmp_path: Path, inputs: Path) -> None:
    made = collect(inputs, tmp_path / "out", edit=True)
    edited = [one for one in made if one.edited is not None]
    assert edited
    assert all(one.ranking[0] == one.edited == 2 and len(one.metadata["gold"]) == 3 for one in edited)
    assert ledger_of(tmp_path / "out")["counts"]["edits"] == len(edited)


def test_the_ledger_names_every_reason_and_adds_up(tmp_path: Path, inputs: Path) -> None:
    collect(inputs, tmp_path / "out", data="long", temperatures=[0.01, 0.02, 3.0], num_comparisons=30, max_tokens=14, tries=2)
    ledger = ledger_of(tmp_path / "out")
    expected = {"equal responses", "empty response", "cut by max_tokens", "cut by the context limit", "prompt longer than the context"}
    assert expected <= set(ledger["dropped"]) <= expected | {"more than num_comparisons"}
    assert ledger["kept"] == 30
    assert ledger["rows_in"] == 30 + sum(reason["count"] for reason in ledger["dropped"].values())
    assert ledger["counts"]["pairs sampled again because they were equal"] >= ledger["dropped"]["equal responses"]["count"]
    assert sum(ledger["counts"]["ratings"].values()) == sum(ledger["counts"]["turns"].values()) == 30


def test_the_ledger_states_the_bayes_limit_of_the_test_split(tmp_path: Path, inputs: Path) -> None:
    collect(inputs, tmp_path / "out")
    stated = ledger_of(tmp_path / "out")["counts"]["Bayes limit of the test split (simulated annotator)"]
    limits = bayes_limit(read_comparisons(tmp_path / "out", "test"), AnnotatorConfig())
    assert stated == {level: pytest.approx(limit.accuracy, abs=1e-4) for level, limit in limits.items()}


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    collect(inputs, folder)
    (folder / "done").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "done"}


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "killed").mkdir()
    run_killed(_worker, (inputs, tmp_path / "straight"), tmp_path / "straight" / "done", kills=0)
    killed = run_killed(_worker, (inputs, tmp_path / "killed"), tmp_path / "killed" / "done", longest=2.0)
    assert killed > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
    assert set(contents(tmp_path / "straight")) == {"comparisons/train.jsonl", "comparisons/test.jsonl", "ledger.json"}


def test_what_was_saved_is_not_asked_again(tmp_path: Path, inputs: Path) -> None:
    stops = iter([False, False, True])
    run = stage_run("collect", inputs, tmp_path / "out", stop_requested=lambda: next(stops))
    stage = decode(Collect, SETTINGS, "stages.collect")
    with pytest.raises(Stopped, match="the same command goes on"):
        stage.run(run)
    saved = sorted((tmp_path / "out" / "chunks" / "asked").iterdir())
    assert len(saved) == 2
    for path in saved:
        path.write_text(path.read_text().replace('"round": "1"', '"round": "kept"'))
    assert any(one.round == "kept" for one in collect(inputs, tmp_path / "out"))


def test_another_seed_asks_otherwise(tmp_path: Path, inputs: Path) -> None:
    run = stage_run("collect", inputs, tmp_path / "other")
    run.seed = 2
    decode(Collect, SETTINGS, "stages.collect").run(run)
    assert {one.responses for one in read_comparisons(tmp_path / "other", "train")}.isdisjoint({one.responses for one in collect(inputs, tmp_path / "out")})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": {"late": "late"}}, "two different models"),
        ({"models": {"late": "late", "again": "late"}}, "two different models"),
        ({"temperatures": [1.0]}, "two or more different ones"),
        ({"temperatures": [1.0, 1.0]}, "two or more different ones"),
        ({"temperatures": [1.0, -1.0]}, "none below 0"),
    ],
)
def test_one_model_or_one_temperature_is_no_comparison(tmp_path: Path, inputs: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        collect(inputs, tmp_path / "out", **settings)


def test_a_base_model_cannot_be_asked(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(FormatError, match="base model"):
        collect(inputs, tmp_path / "out", models={"late": "late", "base": "model"})


def test_too_few_dialogs_say_what_became_of_them(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(DataError, match=r"comparisons came of 80 dialogs asked 8 times, expected 9,000\. Set aside: .*equal responses: "):
        collect(inputs, tmp_path / "out", num_comparisons=9000, temperatures=[0.01, 0.02], tries=1)
