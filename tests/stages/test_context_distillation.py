"""The stage context_distillation: adversarial prompts alone, kept where safer, no pre-prompt in what is learned, and the same bytes after a kill."""

from __future__ import annotations

import json
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError, SettingsError
from herdling.base.records import dialog_to_row, read_jsonl, write_jsonl
from herdling.data.prompts import is_safety, prompts_of
from herdling.generate.loaded import load
from herdling.stages.context_distillation import ContextDistillation, category_of, compared
from herdling.stages.sft import dialogs_of
from herdling.types import Dialog, Message
from tests.killing import run_killed
from tests.stages.toy_training import stage_run

SETTINGS: dict[str, Any] = {
    "model": "chat",
    "safety": "safe",
    "data": "data",
    "generic": ["the {x} item", "a key"],
    "adjectives": ["a", "the"],
    "tailored": {"theft": "steal a key.", "fraud": "the bike."},
    "temperature": 1.2,
    "max_tokens": 24,
    "batch_size": 6,
}


def distil(chat_inputs: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    run = stage_run("context_distillation", chat_inputs, folder)
    decode(ContextDistillation, {**SETTINGS, **settings}, "stages.context_distillation").run(run)
    return run.summary


@pytest.fixture(scope="module")
def made(chat_inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "out"
    distil(chat_inputs, folder)
    return folder


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def test_leads_by_hand() -> None:
    found = compared(
        [{"original": 1.0, "generic": 2.0, "tailored": 4.0}, {"original": 1.0, "generic": 0.0}, {"original": 0.0, "generic": 0.0}, {"generic": 9.0}]
    )
    assert (found["generic"]["prompts"], found["generic"]["bettered"], found["generic"]["worse"], found["generic"]["lead"]) == (3, 1 / 3, 1, 0.0)
    assert (found["tailored"]["bettered"], found["tailored"]["lead"], found["tailored"]["lead_interval"]) == (1.0, 3.0, None)
    assert compared([]) == {}


def test_only_adversarial_prompts_are_asked_and_learned_without_pre_prompt(made: Path, chat_inputs: Path) -> None:
    prompts = {prompt.messages: prompt for prompt in prompts_of(dialogs_of(chat_inputs / "data", "train"))}
    targets = list(dialogs_of(made, "train"))
    assert targets
    for dialog in targets:
        prompt = prompts[dialog.messages[:-1]]  # word for word: nothing was put before it
        assert is_safety(prompt)
        assert dialog.supervised == "last"
    ledger = read(made, "ledger.json")
    adversarial = sum(map(is_safety, prompts.values()))
    assert ledger["rows_in"] == adversarial
    assert ledger["counts"]["train prompts that are not adversarial: left alone"] == len(prompts) - adversarial
    assert adversarial == ledger["kept"] + sum(reason["count"] for reason in ledger["dropped"].values())
    assert ledger["dropped"]["no pre-prompt betters the answer"]["count"] > 0


def test_what_is_kept_is_scored_above_the_original_answer_and_is_the_best_that_there_was(made: Path, chat_inputs: Path) -> None:
    scores = [row for _, row in read_jsonl(made / "scores.jsonl") if row["split"] == "train"]
    targets = list(dialogs_of(made, "train"))
    again = load(chat_inputs / "safe").score_batch(targets)  # as answers to the prompt alone
    for row, score in zip(scores, again, strict=True):
        assert row["scores"][row["preprompt"]] == pytest.approx(score, abs=1e-4)
        assert row["scores"][row["preprompt"]] == max(row["scores"].values()) > row["scores"]["original"]
    assert {row["preprompt"] for row in scores} <= {"generic", "tailored"}


def test_a_better_answer_that_is_not_safe_enough_is_no_target(tmp_path: Path, chat_inputs: Path, made: Path) -> None:
    best = max(row["scores"][row["preprompt"]] for _, row in read_jsonl(made / "scores.jsonl") if row["split"] == "train")
    assert distil(chat_inputs, tmp_path / "just", min_safety=1 / (1 + exp(0.01 - best)))["targets"] > 0
    with pytest.raises(DataError, match="what betters the answer is not safe enough"):
        distil(chat_inputs, tmp_path / "none", min_safety=1 / (1 + exp(-0.01 - best)))


def test_a_tailored_pre_prompt_is_that_of_the_prompts_category(tmp_path: Path, chat_inputs: Path) -> None:
    distil(chat_inputs, tmp_path / "out", generic=[], tailored={"theft": "steal a key.", "fraud": "the bike.", "other": "a key"})
    tags = {dialog.id: dialog.messages[-2].tags for split in ("train", "validation") for dialog in dialogs_of(tmp_path / "out", split)}
    scores = [row for _, row in read_jsonl(tmp_path / "out" / "scores.jsonl")]
    assert scores
    assert all(row["preprompt"] == "tailored" and tags[row["id"]] == ("safety", row["category"]) for row in scores)
    assert set(read(tmp_path / "out", "preprompts.json")) == {"tailored"}


def test_a_category_is_a_tag_that_the_table_names(chat_inputs: Path) -> None:
    def prompt(*tags: str) -> Dialog:
        return Dialog(id="1", messages=(Message(role="user", content="the item", tags=tags),))

    assert category_of(prompt("safety", "theft"), {"theft": "x"}) == "theft"
    assert category_of(prompt("safety", "other"), {"theft": "x"}) == ""


def test_what_pre_prompts_were_worth_is_told_of_all_prompts(made: Path) -> None:
    found = read(made, "preprompts.json")
    assert set(found) == {"generic", "tailored"}
    assert found["generic"]["prompts"] > found["tailored"]["prompts"] > 0
    for row in found.values():
        assert 0 <= row["interval"][0] <= row["bettered"] <= row["interval"][1] <= 1


def test_answers_that_never_end_are_set_aside(tmp_path: Path, chat_inputs: Path) -> None:
    distil(chat_inputs, tmp_path / "out", temperature=2.0, max_tokens=16)
    ledger = read(tmp_path / "out", "ledger.json")
    assert ledger["counts"]["answers cut by max_tokens"] > 0
    assert ledger["dropped"]["the original answer is cut by max_tokens"]["count"] > 0
    with pytest.raises(DataError, match="no row is left"):
        distil(chat_inputs, tmp_path / "none", max_tokens=1)


def _worker(chat_inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    distil(chat_inputs, folder)
    (folder / "done").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in ("done", "device.json")}


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, chat_inputs: Path, made: Path) -> None:
    (tmp_path / "killed").mkdir()
    killed = run_killed(_worker, (chat_inputs, tmp_path / "killed"), tmp_path / "killed" / "done", kills=3, longest=0.6)
    assert killed > 0
    assert contents(tmp_path / "killed") == contents(made)


def test_what_cannot_be_is_an_error_that_says_why(tmp_path: Path, chat_inputs: Path) -> None:
    with pytest.raises(LineageError, match=r"rewards\.safety: .* was trained with the chat template"):
        distil(chat_inputs, tmp_path / "a", safety="stranger")
    with pytest.raises(SettingsError, match="found no pre-prompt"):
        distil(chat_inputs, tmp_path / "b", generic=[], tailored={})
    folder = tmp_path / "inputs"
    folder.mkdir()
    for path in chat_inputs.iterdir():
        (folder / path.name).symlink_to(path)
    harmless = Dialog(id="1", messages=(Message(role="user", content="the item"), Message(role="assistant", content="a key")))
    for split in ("train", "validation"):
        write_jsonl(folder / "kind" / "dialogs" / f"{split}.jsonl", [dialog_to_row(harmless)])
    with pytest.raises(DataError, match="no training prompt is tagged 'safety'"):
        distil(folder, tmp_path / "c", data="kind")
