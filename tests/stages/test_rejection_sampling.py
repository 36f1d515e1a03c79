"""The stage rejection_sampling: the best of K is the target, earlier versions stay in the pool, what cannot be used is counted, and a kill changes no byte."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from herdling.base.comparison_records import fault, read_comparisons, write_comparisons
from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError, RemoteError, SettingsError, Stopped
from herdling.base.records import dialog_to_row, read_jsonl, write_jsonl
from herdling.generate.fingerprint import model_fingerprint
from herdling.generate.gated_reward import RewardModels
from herdling.generate.loaded import load
from herdling.stages.rejection_sampling import RejectionSampling
from herdling.stages.sft import dialogs_of
from herdling.types import Dialog, Message
from tests.data.toy_comparisons import comparison
from tests.generate.toy_server import ToyServer, refusal, served
from tests.killing import run_killed
from tests.stages.toy_chat import CONTEXT
from tests.stages.toy_training import stage_run

SETTINGS: dict[str, Any] = {
    "model": "chat",
    "rewards": {"helpfulness": "helpful", "safety": "safe"},
    "data": "data",
    "num_samples": 5,
    "temperatures": [0.6, 1.1],
    "max_prompts": 20,
    "max_held_out": 6,
    "max_tokens": 24,
    "max_dropped_share": 0.5,
    "batch_size": 7,
}


def rejection_sampling(chat_inputs: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    run = stage_run("rejection_sampling", chat_inputs, folder)
    decode(RejectionSampling, {**SETTINGS, **settings}, "stages.rejection_sampling").run(run)
    return run.summary


@pytest.fixture(scope="module")
def made(chat_inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage makes with these settings."""
    folder = tmp_path_factory.mktemp("made") / "out"
    rejection_sampling(chat_inputs, folder)
    return folder


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(folder / name)]


def said(dialog: Dialog) -> str:
    return dialog.messages[-1].content


def test_targets_are_the_best_of_all_samples_and_only_the_last_answer_is_learned(made: Path, chat_inputs: Path) -> None:
    targets = list(dialogs_of(made, "train"))
    assert {dialog.supervised for dialog in targets} == {"last"}
    rewards = RewardModels(load(chat_inputs / "helpful"), load(chat_inputs / "safe")).score(targets)
    scores = [row for row in rows(made, "scores.jsonl") if row["split"] == "train"]
    assert [row["reward"] for row in scores] == pytest.approx([reward.combined for reward in rewards], abs=1e-4)
    curves = read(made, "curves.json")
    # The mean of the best of all K, which is computed from every sample apart, is the mean reward of the targets; a prompt without one counts as the floor.
    best = [row["reward"] for row in scores] + [curves["train"]["unusable_as"]] * (20 - len(scores))
    assert curves["train"]["max"]["value"][-1] == pytest.approx(fmean(best), abs=1e-9)
    assert curves["train"]["prompts"] == 20
    assert all(row["reward"] >= row["mean_reward"] for row in scores)


def test_pairs_prefer_the_target_to_a_worse_answer_of_the_same_prompt(made: Path) -> None:
    targets = {dialog.id: said(dialog) for split in ("train", "validation") for dialog in dialogs_of(made, split)}
    pairs = [one for split in ("train", "test") for one in read_comparisons(made, split)]
    assert pairs
    for one in pairs:
        chosen, rejected = one.responses
        assert chosen.message.content == targets[one.id]
        assert one.metadata["rewards"]["combined"][0] > one.metadata["rewards"]["combined"][1]
        assert not {chosen.stop_reason, rejected.stop_reason} & {"max_tokens", "context_full"}
        assert (one.annotator, one.rating, one.round) == ("reward model", None, "rejection_sampling")
        assert fault(one) is None


def test_every_sample_bears_the_weights_that_said_it(made: Path, chat_inputs: Path) -> None:
    expected = model_fingerprint(chat_inputs / "chat")
    assert {response.model_fingerprint for one in read_comparisons(made, "train") for response in one.responses} == {expected}
    assert {row["model_fingerprint"] for row in rows(made, "scores.jsonl")} == {expected}
    assert read(made, "sampler.json") == {"name": "chat", "fingerprint": expected}


def test_the_temperature_is_one_of_those_tried_on_held_out_prompts_and_not_worse_than_the_best(made: Path) -> None:
    curves = read(made, "curves.json")
    found = {row["temperature"]: row["max"] for row in curves["held_out"]}
    assert list(found) == [0.6, 1.1]
    assert found[curves["temperature"]]["high"][-1] >= max(row["value"][-1] for row in found.values())
    assert {response.sampling.temperature for one in read_comparisons(made, "test") for response in one.responses if response.sampling} == {
        curves["temperature"]
    }
    for row in curves["held_out"]:
        assert row["prompts"] == 6
        assert row["max"]["value"] == sorted(row["max"]["value"])
        assert row["max"]["value"][0] == pytest.approx(row["mean"]["value"][0])


def test_the_ledger_adds_up(made: Path) -> None:
    ledger = read(made, "ledger.json")
    assert ledger["rows_in"] == 20 == ledger["kept"] + sum(reason["count"] for reason in ledger["dropped"].values())
    counts = ledger["counts"]
    assert counts["samples"] == 100
    without = sum(amount for name, amount in counts.items() if name.endswith("no pair"))
    assert counts["pairs"] + without == ledger["kept"]
    assert counts["pairs"] == len(list(read_comparisons(made, "train")))


def test_one_sample_makes_targets_and_no_pair(tmp_path: Path, chat_inputs: Path) -> None:
    summary = rejection_sampling(chat_inputs, tmp_path / "out", num_samples=1, temperatures=[1.0])
    assert summary["targets"] > 0
    assert summary["pairs"] == 0
    assert rows(tmp_path / "out", "comparisons/train.jsonl") == []
    ledger = read(tmp_path / "out", "ledger.json")
    assert ledger["counts"]["prompts whose samples all say the same: no pair"] == ledger["kept"]


def test_samples_that_are_all_identical_make_a_target_and_are_counted(tmp_path: Path, chat_inputs: Path) -> None:
    summary = rejection_sampling(chat_inputs, tmp_path / "out", temperatures=[0.0])
    counts = read(tmp_path / "out", "ledger.json")["counts"]
    assert summary["targets"] > 0
    assert summary["pairs"] == 0
    assert counts["samples that say what another says"] == 4 * 20


def test_a_sample_that_never_ended_is_counted_and_never_a_target(tmp_path: Path, chat_inputs: Path) -> None:
    rejection_sampling(chat_inputs, tmp_path / "out", max_tokens=9, temperatures=[1.5], max_dropped_share=1.0)
    ledger, curves = read(tmp_path / "out", "ledger.json"), read(tmp_path / "out", "curves.json")
    cut = ledger["counts"]["samples cut by max_tokens"]
    assert 0 < cut < 100
    assert curves["train"]["unusable"] >= cut
    assert not {row["stop_reason"] for row in rows(tmp_path / "out", "scores.jsonl")} & {"max_tokens", "context_full"}
    assert sum(5 - row["usable"] for row in rows(tmp_path / "out", "scores.jsonl")) > 0  # it was chosen among others that were cut


def test_when_no_sample_ends_the_error_says_so(tmp_path: Path, chat_inputs: Path) -> None:
    with pytest.raises(DataError, match=r"no answer can be used: .*cut by max_tokens"):
        rejection_sampling(chat_inputs, tmp_path / "out", max_tokens=1)


def test_a_prompt_longer_than_the_context_and_one_that_is_asked_twice(tmp_path: Path, chat_inputs: Path) -> None:
    long = Dialog(id="long", messages=(Message(role="user", content="9" * CONTEXT), Message(role="assistant", content="a key.")))
    short = Dialog(id="short", messages=(Message(role="user", content="the item 1"), Message(role="assistant", content="a key.")))
    folder = tmp_path / "inputs"
    for path in chat_inputs.iterdir():
        (folder / path.name).parent.mkdir(exist_ok=True)
        (folder / path.name).symlink_to(path)
    for split in ("train", "validation"):
        write_jsonl(folder / "few" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, (long, short, Dialog(id="again", messages=short.messages))))
    rejection_sampling(folder, tmp_path / "out", data="few", max_dropped_share=0.5)
    ledger = read(tmp_path / "out", "ledger.json")
    assert ledger["rows_in"] == 2
    assert ledger["dropped"]["prompt longer than the context"]["count"] == 1
    with pytest.raises(DataError, match="1 of 2 rows"):
        rejection_sampling(folder, tmp_path / "strict", data="few", max_dropped_share=0.1)


def test_the_best_of_earlier_versions_stay_in_the_pool(tmp_path: Path, chat_inputs: Path, made: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for path in (*chat_inputs.iterdir(), made):
        (folder / ("v1" if path == made else path.name)).symlink_to(path)
    judged = [comparison(901, ("a key", "the dict")), comparison(902, ("the dict", "a key"))]
    write_comparisons(folder / "v0", "train", judged)
    summary = rejection_sampling(folder, tmp_path / "out", num_samples=1, temperatures=[1.0], max_prompts=8, earlier={"v1": "v1", "v0": "v0"})
    before = {row["id"]: row["reward"] for row in rows(made, "scores.jsonl") if row["split"] == "train"}
    after = {row["id"]: row for row in rows(tmp_path / "out", "scores.jsonl") if row["split"] == "train"}
    assert set(before) <= set(after)  # those that are not asked now, too
    for name, reward in before.items():
        assert after[name]["reward"] >= reward - 1e-4
    versions = {row["version"] for row in after.values()}
    assert versions >= {"v0", "v1"}
    assert {said(dialog) for dialog in dialogs_of(tmp_path / "out", "train") if dialog.id.startswith("the item 90")} == {"a key", "the dict"}
    counts = read(tmp_path / "out", "ledger.json")["counts"]
    assert counts["targets of earlier versions"] == summary["from_earlier"] == sum(row["version"] != "rejection_sampling" for row in after.values())
    assert counts["targets of v0"] == 2


def test_a_random_worse_answer_can_stand_against_the_best(tmp_path: Path, chat_inputs: Path, made: Path) -> None:
    rejection_sampling(chat_inputs, tmp_path / "out", rejected="random")
    worst = {one.id: one for one in read_comparisons(made, "train")}
    drawn = {one.id: one for one in read_comparisons(tmp_path / "out", "train")}
    assert set(drawn) == set(worst)
    gaps = [worst[name].metadata["rewards"]["combined"][1] - one.metadata["rewards"]["combined"][1] for name, one in drawn.items()]
    assert max(gaps) <= 0
    assert min(gaps) < 0
    assert list(dialogs_of(tmp_path / "out", "train")) == list(dialogs_of(made, "train"))


def _worker(chat_inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    rejection_sampling(chat_inputs, folder)
    (folder / "done").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in ("done", "device.json")}


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, chat_inputs: Path, made: Path) -> None:
    (tmp_path / "killed").mkdir()
    killed = run_killed(_worker, (chat_inputs, tmp_path / "killed"), tmp_path / "killed" / "done", kills=3, longest=1.5)
    assert killed > 0
    assert contents(tmp_path / "killed") == contents(made)
    assert "chunks" not in {name.split("/")[0] for name in contents(made)}


def test_what_was_saved_is_not_sampled_again(tmp_path: Path, chat_inputs: Path) -> None:
    stops = iter([False, True])
    run = stage_run("rejection_sampling", chat_inputs, tmp_path / "out", stop_requested=lambda: next(stops))
    with pytest.raises(Stopped, match="the same command goes on"):
        decode(RejectionSampling, SETTINGS, "stages.rejection_sampling").run(run)
    (saved,) = (tmp_path / "out" / "chunks").rglob("*.jsonl")
    saved.write_text("".join(json.dumps({**row, "rewards": [50.0] * 5}) + "\n" for _, row in read_jsonl(saved)))
    rejection_sampling(chat_inputs, tmp_path / "out")
    assert read(tmp_path / "out", "curves.json")["held_out"][0]["max"]["value"] == [50.0] * 5


class Served(ToyServer):
    """A server whose listing tells which weights it has."""

    weights = "first"

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "toy", "object": "model", "root": self.weights}]})


def test_a_server_can_be_the_sampler_and_one_with_other_weights_is_refused(tmp_path: Path, chat_inputs: Path) -> None:
    server = Served()
    with served(server.app) as address:
        rejection_sampling(chat_inputs, tmp_path / "out", sampler={"url": f"{address}/v1"}, num_samples=2, temperatures=[1.0], max_held_out=2, max_prompts=4)
        assert {len(body["messages"]) % 2 for body in server.requests} == {1}
        assert [body["n"] for body in server.requests] == [2] * 6  # all samples of a prompt in one request
        assert {said(one) for one in dialogs_of(tmp_path / "out", "train")} <= {body["messages"][-1]["content"].upper() for body in server.requests}
        fingerprints = {row["model_fingerprint"] for row in rows(tmp_path / "out", "scores.jsonl")}
        assert fingerprints == {read(tmp_path / "out", "sampler.json")["fingerprint"]}  # this one says nothing of its weights in an answer
        server.failures = [refusal(400, "out of memory")]
        settings = {"sampler": {"url": f"{address}/v1"}, "num_samples": 2, "temperatures": [1.0], "batch_size": 1, "max_held_out": 2}
        with pytest.raises(RemoteError, match="out of memory"):
            rejection_sampling(chat_inputs, tmp_path / "died", **settings)
        server.weights = "second"
        with pytest.raises(LineageError, match=r"this stage began with the weights .*, the sampler now has"):
            rejection_sampling(chat_inputs, tmp_path / "died", **settings)
        server.weights = "first"
        assert rejection_sampling(chat_inputs, tmp_path / "died", **settings)["targets"] == 20


def test_answers_of_weights_that_changed_on_the_way_are_refused_even_by_a_stage_that_goes_on(tmp_path: Path, chat_inputs: Path) -> None:
    server, stops = Served(), iter([False, True])
    server.told = {"metadata": {"weight_version": "1"}}
    with served(server.app) as address:
        settings = {"sampler": {"url": f"{address}/v1"}, "num_samples": 2, "temperatures": [1.0], "batch_size": 1, "max_held_out": 2}
        run = stage_run("rejection_sampling", chat_inputs, tmp_path / "out", stop_requested=lambda: next(stops))
        with pytest.raises(Stopped):
            decode(RejectionSampling, {**SETTINGS, **settings}, "stages.rejection_sampling").run(run)
        server.told = {"metadata": {"weight_version": "2"}}
        with pytest.raises(LineageError, match=r"chat: an answer came from the weights .*, expected .*: the sampler changed on the way"):
            rejection_sampling(chat_inputs, tmp_path / "out", **settings)
        server.told = {"metadata": {"weight_version": "1"}}
        assert rejection_sampling(chat_inputs, tmp_path / "out", **settings)["targets"] == 20
        pinned = read(tmp_path / "out", "sampler.json")
        assert pinned["answers"] != pinned["fingerprint"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path, chat_inputs: Path) -> None:
    with pytest.raises(LineageError, match=r"rewards\.safety: .* was trained with the chat template"):
        rejection_sampling(chat_inputs, tmp_path / "a", rewards={"helpfulness": "helpful", "safety": "stranger"})
    with pytest.raises(SettingsError, match=r"temperatures: found \[1\.0, 1\.0\]"):
        rejection_sampling(chat_inputs, tmp_path / "b", temperatures=[1.0, 1.0])
    with pytest.raises(SettingsError, match=r"rewards\.helpful: unknown setting"):
        rejection_sampling(chat_inputs, tmp_path / "c", rewards={"helpful": "helpful"})
    with pytest.raises(DataError, match="has neither dialogs nor comparisons"):
        rejection_sampling(chat_inputs, tmp_path / "d", earlier={"v1": "chat"})
