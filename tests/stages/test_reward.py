import json

import pytest
import torch

import herdling
from herdling.base.artifact import file_digests
from herdling.base.comparison_records import read_comparisons, write_comparisons
from herdling.base.decode import decode
from herdling.base.errors import DataError, FormatError, SettingsError
from herdling.base.records import read_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.stages.reward import Reward
from tests.data.toy_comparisons import answer, comparison, question, toy_format
from tests.killing import run_killed
from tests.stages.toy_training import LOOP, MODEL, stage_run

RATINGS = ("significantly", "better", "slightly", "negligibly")


def preferred(number):
    """A key is always better than a dict, and a list than a tuple: the taste that a model can learn from words alone."""
    good, bad = [("a key", "the dict"), ("the list", "a tuple")][number % 2]
    shown = (good, bad) if number % 3 else (bad, good)
    ranking = (0, 1) if number % 3 else (1, 0)
    safe = (number % 5 > 0, number % 5 > 0)
    return comparison(number, (f"{shown[0]} {number % 7}", f"{shown[1]} {number % 5}"), ranking=ranking, rating=RATINGS[number % 4], safe=safe)


@pytest.fixture
def inputs(tmp_path):
    torch.set_num_threads(1)
    folder, chat = tmp_path / "inputs", toy_format()
    model = Llama(LlamaConfig(**{**MODEL, "max_position_embeddings": 96}))
    model.init_weights(0)
    save_model(folder / "chat", model, chat.tokenizer, chat)
    save_model(folder / "base", model, chat.tokenizer)
    write_comparisons(folder / "keys", "train", map(preferred, range(160)))
    write_comparisons(folder / "keys", "test", map(preferred, range(160, 200)))
    # A set with one that is cut, one too long to read, and an edit.
    odd = [
        comparison(1, responses=(answer("a key"), answer("the", "context_full")), rating="better"),
        comparison(2, dialog=question("the item " * 60), rating="better"),
        comparison(3, ("a key", "the dict", "a key of the list"), ranking=(2, 0, 1), edited=2, rating="better"),
    ]
    write_comparisons(folder / "odd", "train", odd)
    write_comparisons(folder / "odd", "test", odd[1:])
    return folder


SETTINGS = {"model": "chat", "comparisons": {"keys": "keys"}, "batch_pairs": 16, "optimizer": {"lr": 3e-3}, "loop": LOOP}


def run_reward(inputs, folder, **settings):
    run = stage_run("reward", inputs, folder)
    decode(Reward, {**SETTINGS, **settings}, "stages.reward").run(run)
    (folder / "done").touch()
    return run.summary


def run_in_worker(inputs, folder, settings):
    torch.set_num_threads(1)
    run_reward(inputs, folder, **settings)


def test_a_reward_model_comes_out_that_learned_what_is_preferred(tmp_path, inputs):
    summary = run_reward(inputs, tmp_path / "reward", epochs=4)
    assert summary["test_comparisons"] == 40
    assert summary["test_accuracy"] >= 0.95
    results = json.loads((tmp_path / "reward" / "results.json").read_text())
    assert results["all"]["accuracy"]["total"] == 40
    assert set(results["all"]["by_rating"]) == set(RATINGS)
    ledger = json.loads((tmp_path / "reward" / "ledger.json").read_text())
    assert (ledger["rows_in"], ledger["kept"], ledger["counts"]["pairs"]) == (160, 160, 160)
    steps = [line for _, line in read_jsonl(tmp_path / "reward" / "metrics.jsonl")]
    assert [line["supervised"] for line in steps] == [16] * 40
    assert steps[-1]["accuracy"] > 0.9 > steps[0]["accuracy"]
    assert steps[-1]["margin"] > steps[0]["margin"]
    rates = [line["lr"] for line in steps[:6]]
    assert rates == sorted(rates)  # 3 % of 40 steps would be one; the warm-up is five
    assert rates[4] < 3e-3 <= rates[5] + 1e-4


def test_the_scores_of_the_test_comparisons_are_those_of_the_folder_read_back(tmp_path, inputs):
    run_reward(inputs, tmp_path / "reward")
    rows = [row for _, row in read_jsonl(tmp_path / "reward" / "scores.jsonl")]
    model = herdling.load(tmp_path / "reward")
    for row, judged in zip(rows[:5], read_comparisons(inputs / "keys", "test"), strict=False):
        assert (row["set"], row["id"], row["ranking"]) == ("keys", judged.id, list(judged.ranking))
        dialogs = [[*judged.dialog.messages, response.message] for response in judged.responses]
        assert model.score_batch(dialogs) == pytest.approx(row["scores"], abs=1e-5)


def test_killed_at_random_points_it_leaves_the_same_files_bit_by_bit(tmp_path, inputs):
    settings = {"epochs": 3, "safety_loss": 0.1}
    run_reward(inputs, tmp_path / "straight", **settings)
    (tmp_path / "killed").mkdir()
    killed = run_killed(run_in_worker, (inputs, tmp_path / "killed", settings), tmp_path / "killed" / "done")
    assert killed >= 2

    def digests(folder):
        return {name: entry["sha256"] for name, entry in file_digests(folder).items()}

    assert digests(tmp_path / "killed") == digests(tmp_path / "straight")


def test_a_mix_and_bad_rows_are_counted_and_the_edit_is_used_by_llama3_alone(tmp_path, inputs):
    sets = {"keys": "keys", "odd": "odd"}
    run_reward(inputs, tmp_path / "llama2", comparisons=sets)
    ledger = json.loads((tmp_path / "llama2" / "ledger.json").read_text())
    assert (ledger["rows_in"], ledger["kept"], ledger["counts"]["pairs"]) == (163, 161, 161)
    assert {reason: entry["count"] for reason, entry in ledger["dropped"].items()} == {"longer than the context": 1, "response cut by the context limit": 1}
    assert ledger["counts"]["test comparisons"]["kept"] == 41
    assert ledger["counts"]["test comparisons"]["dropped"]["longer than the context"]["count"] == 1
    summary = run_reward(inputs, tmp_path / "llama3", comparisons=sets, objective="llama3")
    assert summary["pairs"] == 80 + 3
    mix = {"main": ["odd"], "side": ["keys"], "side_share": 0.9}
    summary = run_reward(inputs, tmp_path / "mixed", comparisons=sets, mix=mix, max_dropped_share=0.1)
    assert summary["comparisons"] == 3 + 27 - 2


def test_a_margin_beside_llama3_a_base_model_and_sets_without_test_are_errors(tmp_path, inputs):
    with pytest.raises(SettingsError, match="llama3 has no margin"):
        run_reward(inputs, tmp_path / "a", objective="llama3", margin="large")
    with pytest.raises(FormatError, match="is a base model"):
        run_reward(inputs, tmp_path / "b", model="base")
    (inputs / "keys" / "comparisons" / "test.jsonl").unlink()
    with pytest.raises(DataError, match="no set has test comparisons"):
        run_reward(inputs, tmp_path / "c")


def test_too_many_comparisons_that_cannot_be_used_are_an_error_and_not_a_smaller_set(tmp_path, inputs):
    with pytest.raises(DataError, match="2 of 3 rows"):
        run_reward(inputs, tmp_path / "reward", comparisons={"odd": "odd"})
