import json

import pytest
import torch

import herdling
from herdling.base.artifact import file_digests
from herdling.base.comparison_records import read_comparisons, write_comparisons
from herdling.base.decode import decode
from herdling.base.errors import CheckpointError, DataError, FormatError, LineageError, Stopped
from herdling.base.records import read_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.stages.dpo import Dpo
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from tests.data.toy_comparisons import WORDS, answer, comparison, question, toy_format
from tests.killing import run_killed
from tests.stages.toy_training import LOOP, MODEL, stage_run

RATINGS = ("significantly", "better", "slightly", None)


def preferred(number):
    """A key is always better than a dict, and a list than a tuple."""
    good, bad = [("a key", "the dict"), ("the list", "a tuple")][number % 2]
    shown = (good, bad) if number % 3 else (bad, good)
    ranking = (0, 1) if number % 3 else (1, 0)
    return comparison(number, (f"{shown[0]} {number % 7}", f"{shown[1]} {number % 5}"), ranking=ranking, rating=RATINGS[number % 4])


def save_chat(folder, seed, form=None):
    form = form or toy_format()
    model = Llama(LlamaConfig(**{**MODEL, "max_position_embeddings": 96}))
    model.init_weights(seed)
    save_model(folder, model, form.tokenizer, form)


@pytest.fixture
def inputs(tmp_path):
    torch.set_num_threads(1)
    folder = tmp_path / "inputs"
    save_chat(folder / "chat", 0)
    save_chat(folder / "other", 1)
    save_chat(
        folder / "stranger",
        1,
        chat_format(train_byte_level_bpe(iter([" ".join(WORDS[::-1] * 2), "other words altogether, said by a stranger"]), 300), "llama3"),
    )
    model = Llama(LlamaConfig(**MODEL))
    model.init_weights(0)
    save_model(folder / "base", model, toy_format().tokenizer)
    write_comparisons(folder / "keys", "train", map(preferred, range(160)))
    write_comparisons(folder / "keys", "test", map(preferred, range(160, 200)))
    # A set with one that is cut, one too long to read, and an edit.
    odd = [
        comparison(1, responses=(answer("a key"), answer("the", "context_full")), rating="better"),
        comparison(2, dialog=question("the item " * 60), rating="better"),
        comparison(3, ("a key", "the dict", "a key of the list"), ranking=(2, 0, 1), edited=2, rating="better"),
    ]
    write_comparisons(folder / "odd", "train", odd)
    write_comparisons(folder / "none", "train", [])
    return folder


SETTINGS = {"model": "chat", "comparisons": {"keys": "keys"}, "batch_pairs": 16, "optimizer": {"lr": 3e-3}, "loop": LOOP}
SELDOM = {**LOOP, "checkpoint": {"every_seconds": 1e9}}
MOVING = {"moving_reference": {"every_steps": 3, "decay": 0.5}}


def run_dpo(inputs, folder, stop_requested=lambda: False, **settings):
    run = stage_run("dpo", inputs, folder, stop_requested=stop_requested)
    decode(Dpo, {**SETTINGS, **settings}, "stages.dpo").run(run)
    (folder / "done").touch()
    return run.summary


def run_in_worker(inputs, folder, settings):
    torch.set_num_threads(1)
    run_dpo(inputs, folder, **settings)


def digests(folder):
    return {name: entry["sha256"] for name, entry in file_digests(folder).items()}


def metrics(folder):
    return [line for _, line in read_jsonl(folder / "metrics.jsonl")]


def test_what_was_chosen_becomes_likelier_than_what_was_rejected(tmp_path, inputs):
    summary = run_dpo(inputs, tmp_path / "dpo", epochs=4, loop=SELDOM)
    assert (summary["comparisons"], summary["pairs"]) == (120, 120)  # those rated slightly better are left out
    assert (summary["test_pairs"], summary["test_accuracy"]) == (30, 1.0)
    ledger = json.loads((tmp_path / "dpo" / "ledger.json").read_text())
    assert ledger["dropped"]["rating not asked for"]["count"] == 40
    assert ledger["counts"]["sets"] == {"keys": 160}
    steps = metrics(tmp_path / "dpo")
    assert [line["supervised"] for line in steps] == [16] * 30
    assert steps[0]["margin"] == pytest.approx(0, abs=1e-5)  # the policy is its reference
    assert steps[0]["chosen_shift"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["accuracy"] > 0.9
    assert steps[-1]["margin"] > 0.1 > steps[0]["margin"]
    assert steps[-1]["nll"] < steps[0]["nll"]


def test_the_folder_is_a_chat_model_whose_shifts_are_those_reported(tmp_path, inputs):
    run_dpo(inputs, tmp_path / "dpo", formatting="trained", ratings=["significantly", "better", "slightly", "negligibly"])
    before, after = herdling.load(inputs / "chat"), herdling.load(tmp_path / "dpo")
    assert after.can_chat
    shifts = []
    for judged in read_comparisons(inputs / "keys", "test"):
        pair = []
        for response in judged.ranked:
            prompt = before.chat_format.encode(judged.dialog, generate=True).ids
            ids = before.chat_format.encode(judged.dialog.__class__(id="", messages=(*judged.dialog.messages, response.message))).ids
            place = range(len(prompt) - 1, len(ids) - 1)
            logprobs = [torch.log_softmax(model.logits(ids), -1)[list(place), list(ids[len(prompt) :])].sum().item() for model in (before, after)]
            pair.append(logprobs[1] - logprobs[0])
        shifts.append(pair)
    results = json.loads((tmp_path / "dpo" / "results.json").read_text())
    chosen, rejected = torch.tensor(shifts).T
    assert results["pairs"] == 40
    assert results["chosen_shift"] == pytest.approx(chosen.mean().item(), abs=2e-4)
    assert results["rejected_shift"] == pytest.approx(rejected.mean().item(), abs=2e-4)
    assert results["margin"] == pytest.approx(0.1 * (chosen - rejected).mean().item(), abs=2e-4)
    assert results["accuracy"] == pytest.approx((chosen > rejected).float().mean().item(), abs=1e-4)
    samples = [row for _, row in read_jsonl(tmp_path / "dpo" / "samples.jsonl")]
    assert [row["prompt"] for row in samples] == [f"the item {number}" for number in range(160, 164)]


@pytest.mark.parametrize("settings", [{}, MOVING])
def test_killed_at_random_points_it_leaves_the_same_files_bit_by_bit(tmp_path, inputs, settings):
    settings = {"epochs": 2, **settings}
    run_dpo(inputs, tmp_path / "straight", **settings)
    (tmp_path / "killed").mkdir()
    killed = run_killed(run_in_worker, (inputs, tmp_path / "killed", settings), tmp_path / "killed" / "done", kills=4)
    assert killed >= 2
    assert digests(tmp_path / "killed") == digests(tmp_path / "straight")


def test_a_moving_reference_draws_the_policy_on_further_than_a_frozen_one(tmp_path, inputs):
    frozen = run_dpo(inputs, tmp_path / "frozen", loop=SELDOM)
    moved = run_dpo(inputs, tmp_path / "moved", loop=SELDOM, **MOVING)
    lines = metrics(tmp_path / "moved")
    assert lines[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert moved["test_margin"] > frozen["test_margin"]


def test_a_run_that_is_stopped_between_reference_and_training_goes_on_with_what_the_reference_said(tmp_path, inputs):
    stops = iter([False] * 6)
    with pytest.raises(Stopped):
        run_dpo(inputs, tmp_path / "dpo", stop_requested=lambda: next(stops, True))
    said = tmp_path / "dpo" / "reference" / "00000.json"
    first = said.stat().st_mtime_ns
    with pytest.raises(Stopped):
        run_dpo(inputs, tmp_path / "dpo", stop_requested=lambda: True)
    assert said.stat().st_mtime_ns == first
    with pytest.raises(CheckpointError, match="another reference model"):
        run_dpo(inputs, tmp_path / "dpo", reference="other")
    run_dpo(inputs, tmp_path / "dpo")
    run_dpo(inputs, tmp_path / "straight")
    assert digests(tmp_path / "dpo") == digests(tmp_path / "straight")


def test_bad_rows_are_counted_and_an_edit_makes_one_pair_or_three(tmp_path, inputs):
    sets = {"keys": "keys", "odd": "odd", "none": "none"}
    summary = run_dpo(inputs, tmp_path / "ends", comparisons=sets, loop=SELDOM)
    ledger = json.loads((tmp_path / "ends" / "ledger.json").read_text())
    assert (summary["pairs"], ledger["rows_in"], ledger["counts"]["edits"]) == (121, 163, 1)
    assert ledger["dropped"]["longer than the context"]["count"] == 1
    assert ledger["dropped"]["response cut by the context limit"]["count"] == 1
    assert ledger["counts"]["sets"] == {"keys": 160, "odd": 3, "none": 0}
    assert run_dpo(inputs, tmp_path / "all", comparisons=sets, pairs="all", loop=SELDOM)["pairs"] == 123


def test_another_reference_is_another_loss_from_the_first_step(tmp_path, inputs):
    run_dpo(inputs, tmp_path / "other", reference="other")
    first = metrics(tmp_path / "other")[0]
    assert abs(first["margin"]) > 1e-3


def test_wrong_inputs_are_errors_that_name_what_is_wrong(tmp_path, inputs):
    with pytest.raises(LineageError, match=r"stages\.dpo\.reference: .*stranger has the tokenizer"):
        run_dpo(inputs, tmp_path / "a", reference="stranger")
    with pytest.raises(FormatError, match="is a base model"):
        run_dpo(inputs, tmp_path / "b", model="base")
    with pytest.raises(DataError, match="no comparison to train on in none"):
        run_dpo(inputs, tmp_path / "c", comparisons={"none": "none"})
    with pytest.raises(DataError, match="2 of 3 rows"):
        run_dpo(inputs, tmp_path / "d", comparisons={"odd": "odd"})


def test_without_test_comparisons_nothing_is_measured_and_nothing_fails(tmp_path, inputs):
    (inputs / "keys" / "comparisons" / "test.jsonl").unlink()
    summary = run_dpo(inputs, tmp_path / "dpo")
    assert not any(name.startswith("test_") for name in summary)
    assert json.loads((tmp_path / "dpo" / "results.json").read_text()) == {}
    assert not list(read_jsonl(tmp_path / "dpo" / "samples.jsonl"))
