from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from herdling.base.artifact import file_digests, read_artifact
from herdling.base.comparison_records import fault, read_comparisons
from herdling.base.errors import DataError, LineageError, Refused
from herdling.preference.batch import decide_splits
from herdling.preference.judgements import Judgement
from herdling.preference.review import Seen
from herdling.types import Comparison
from tests.preference.desk import LEFT, PLAIN, Desk, add_user, gold


def contents(folder: Path) -> list[Comparison]:
    return [comparison for split in ("train", "test") for comparison in read_comparisons(folder, split)]


def ledger(folder: Path) -> dict[str, int]:
    return {reason: entry["count"] for reason, entry in read(folder / "ledger.json")["dropped"].items()}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def judge_all(desk: Desk, campaign: str, number: int, judgement: Judgement = LEFT) -> None:
    for _ in range(number):
        desk.judge(desk.next(campaign, desk.ann), desk.ann, judgement)


def test_a_closed_round_is_an_artifact_with_all_that_is_known_of_each_comparison(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=8)
    held = desk.next(campaign, desk.ann)
    desk.clock.now += 33
    desk.judge(held, desk.ann, Judgement(side="right", rating="slightly"))
    judge_all(desk, campaign, 7)
    artifact = desk.store.rounds.close(campaign, tmp_path)
    artifact.verify()
    assert (artifact.folder, artifact.kind) == (tmp_path / "helpful-01", "comparisons")
    first = next(each for each in contents(artifact.folder) if each.metadata["task"] == held.task)
    assert tuple(response.message.content for response in first.responses) == held.responses
    assert (first.ranking, first.rating, first.seconds, first.round, first.simulated) == ((1, 0), "slightly", 33.0, "helpful-01", False)
    assert (first.annotator, first.metadata["guidelines_version"], first.metadata["prompt_source"]) == ("annotator-ann", 1, "queue: test")
    for response in first.responses:
        assert response.sampling is not None
        assert response.message.content.startswith(f"{response.model} at {response.sampling.temperature}")
        assert response.model_fingerprint == f"weights of {response.model}"
    assert all(fault(each) is None for each in contents(artifact.folder))


def test_provenance_names_models_guidelines_and_pseudonyms_with_their_counts(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=4)
    judge_all(desk, campaign, 2)
    desk.store.campaigns.put(replace(PLAIN, guidelines="Prefer the truth.", guidelines_version=2))
    judge_all(desk, campaign, 2)
    folder = desk.store.rounds.close(campaign, tmp_path).folder
    found = read(folder / "provenance.json")
    assert [(each["version"], each["comparisons"], each["text"]) for each in found["guidelines"]] == [(1, 2, "Prefer what helps."), (2, 2, "Prefer the truth.")]
    assert found["annotators"] == {"annotator-ann": 4}
    assert sum(each["responses"] for each in found["models"]) == 8
    assert {each["fingerprint"] for each in found["models"]} == {"weights of a", "weights of b"}
    assert '"ann"' not in (folder / "provenance.json").read_text()


def test_an_edit_ranks_first_and_safety_flags_follow_the_label(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=2, name="safe", kind="safety", style="llama3")
    judge_all(desk, campaign, 1, Judgement(side="right", rating="better", safety="chosen safe", edit="kinder", edit_safe=True))
    judge_all(desk, campaign, 1, Judgement(side="left", rating="better", safety="both unsafe"))
    edited, plain = sorted(contents(desk.store.rounds.close(campaign, tmp_path).folder), key=lambda each: each.metadata["task"])
    assert (edited.ranking, edited.edited, edited.safe, edited.responses[2].message.content) == ((2, 1, 0), 2, (False, True, True), "kinder")
    assert (plain.ranking, plain.edited, plain.safe) == ((0, 1), None, (False, False))


def test_hidden_items_and_what_was_taken_back_or_set_aside_are_counted_and_left_out(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=40, gold_share=0.3, repeat_share=0.3)
    desk.store.campaigns.add_gold(campaign, map(gold, range(20)))
    judge_all(desk, campaign, 30)
    hidden = {
        kind: desk.count("SELECT count(*) FROM judgements j JOIN tasks t ON t.id = j.task_id WHERE t.kind = :kind", kind=kind) for kind in ("gold", "repeat")
    }
    assert min(hidden.values()) > 0
    plain = [
        line.task
        for line in desk.store.judgements.history(campaign, desk.ann, limit=30)
        if desk.count(f"SELECT count(*) FROM tasks WHERE id = {line.task} AND kind = 'prompt'")
    ]
    careless = Seen(campaign=campaign, task=plain[0], annotator="annotator-ann", revision=1)
    desk.store.reviews.set_aside(careless, "careless", by=desk.bob, key="aside")
    desk.store.judgements.undo(plain[1], desk.ann, key="undo")
    folder = desk.store.rounds.close(campaign, tmp_path).folder
    assert ledger(folder) == {"hidden gold item": hidden["gold"], "hidden repeat": hidden["repeat"], "set aside on review": 1, "taken back": 1}
    assert len(contents(folder)) == 30 - sum(hidden.values()) - 2


def test_every_judgement_of_a_task_is_kept_and_tells_how_many_chose_the_same(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=7, overlap=3)
    carol = add_user(desk.store, "carol")
    wanted = {desk.ann: "a ", desk.bob: "a ", carol: "b "}
    for _ in range(6):
        for user, model in wanted.items():
            held = desk.next(campaign, user)
            assert held.responses is not None
            desk.judge(held, user, replace(LEFT, side="left" if held.responses[0].startswith(model) else "right"))
    desk.judge(desk.next(campaign, desk.ann), desk.ann)  # a seventh task, which nobody else judged
    folder = desk.store.rounds.close(campaign, tmp_path).folder
    told = {each.annotator: each.metadata["agreement"] for each in contents(folder) if "agreement" in each.metadata}
    assert told == {
        "annotator-ann": {"judgements": 3, "same_choice": 2},
        "annotator-bob": {"judgements": 3, "same_choice": 2},
        "annotator-carol": {"judgements": 3, "same_choice": 1},
    }
    assert len(contents(folder)) == 19
    found = read(folder / "provenance.json")["agreement"]
    # Of the three pairs of people, one chose the same in each of six tasks.
    assert (found["tasks"], found["same_choice"]["hits"], found["same_choice"]["total"]) == (6, 6, 18)
    assert found["alpha"] < 0


def test_closing_twice_is_once(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=4)
    judge_all(desk, campaign, 2)
    first = desk.store.rounds.close(campaign, tmp_path)
    desk.clock.now += 1000
    again = desk.store.rounds.close(campaign, tmp_path, number=1)
    assert again.manifest == first.manifest
    with pytest.raises(DataError, match="no row is left of 0 read"):
        desk.store.rounds.close(campaign, tmp_path)
    judge_all(desk, campaign, 2)
    second = desk.store.rounds.close(campaign, tmp_path)
    assert second.folder.name == "helpful-02"
    assert [(each.name, each.fingerprint, each.num_judgements) for each in desk.store.rounds.rounds(campaign)] == [
        ("helpful-01", first.fingerprint, 2),
        ("helpful-02", second.fingerprint, 2),
        ("helpful-03", None, 0),
    ]
    with pytest.raises(Refused, match="unknown round"):
        desk.store.rounds.close(campaign, tmp_path, number=9)


def test_a_round_frozen_again_elsewhere_has_the_same_bytes_whatever_changed_since(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=6)
    judge_all(desk, campaign, 4)
    first = desk.store.rounds.close(campaign, tmp_path / "here")
    desk.store.campaigns.put(replace(PLAIN, test_share=0.9, max_turns=1))
    judge_all(desk, campaign, 2)
    again = desk.store.rounds.close(campaign, tmp_path / "there", number=1)
    assert again.fingerprint == first.fingerprint
    assert file_digests(again.folder) == file_digests(first.folder)


def test_a_changed_artifact_is_noticed_and_another_one_is_not_overwritten(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=2)
    judge_all(desk, campaign, 2)
    folder = desk.store.rounds.close(campaign, tmp_path).folder
    (folder / "ledger.json").write_text("{}")
    with pytest.raises(LineageError, match=r"ledger.json: is not what helpful-01 wrote"):
        desk.store.rounds.close(campaign, tmp_path, number=1)
    assert (folder / "ledger.json").read_text() == "{}"


def test_turns_of_a_dialog_and_dialogs_of_a_prompt_never_straddle_the_splits(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=12, test_share=0.4, overlap=2)
    for user in (desk.ann, desk.bob):
        for _ in range(12):
            held = desk.next(campaign, user)
            desk.judge(held, user, key=f"{held.task} {user}")
            further = desk.answered(desk.store.tasks.proceed(held.task, user, "Why?", key=f"on {held.task}"), user)
            desk.judge(further, user, key=f"{further.task} {user}")
    folder = desk.store.rounds.close(campaign, tmp_path).folder
    openings = [{each.dialog.messages[0].content for each in read_comparisons(folder, split)} for split in ("train", "test")]
    assert all(openings)
    assert openings[0].isdisjoint(openings[1])
    assert len(contents(folder)) == 48


def test_what_was_held_out_once_is_held_out_in_later_rounds(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(test_share=0.5)
    sides = []
    for number in range(2):
        for text in "abcdefgh":
            held = desk.answered(desk.store.tasks.write_prompt(campaign, desk.ann, text, key=f"{number} {text}"), desk.ann)
            desk.judge(held, desk.ann)
        folder = desk.store.rounds.close(campaign, tmp_path).folder
        sides.append({each.dialog.messages[0].content for each in read_comparisons(folder, "test")})
        desk.store.campaigns.put(replace(PLAIN, test_share=0.9))
    assert sides[0] == sides[1]
    assert sides[0]


def test_the_share_decides_by_digest_and_no_side_stays_empty_by_chance() -> None:
    low, high = "0" * 64, "f" * 64
    assert decide_splits({low, high}, {}, 0.5) == {low: "test", high: "train"}
    assert decide_splits({high, "e" * 64}, {}, 0.1) == {"e" * 64: "test", high: "train"}
    assert decide_splits({low, "1" * 64}, {}, 0.9) == {low: "test", "1" * 64: "train"}
    assert decide_splits({low, high}, {low: "train"}, 0.5) == {high: "test"}
    assert decide_splits({low}, {}, 0.0) == {low: "train"}


def test_nothing_half_written_is_ever_taken_for_a_round(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=2)
    judge_all(desk, campaign, 2)
    (tmp_path / ".helpful-01.partial").mkdir()
    (tmp_path / ".helpful-01.partial" / "left.txt").write_text("from a killed process")
    artifact = desk.store.rounds.close(campaign, tmp_path)
    assert not (artifact.folder / "left.txt").exists()
    assert read_artifact(artifact.folder).fingerprint == desk.store.rounds.rounds(campaign)[0].fingerprint


def test_a_hidden_item_judged_anew_after_the_round_leaves_the_frozen_round_as_it_was(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=12, gold_share=0.5)
    desk.store.campaigns.add_gold(campaign, map(gold, range(12)))
    judge_all(desk, campaign, 10)
    number = desk.count("SELECT max(task_id) FROM judgements WHERE task_id IN (SELECT id FROM tasks WHERE kind = 'gold')")
    held = desk.store.judgements.undo(number, desk.ann, key="undo")
    first = desk.store.rounds.close(campaign, tmp_path / "here")
    assert desk.judge(held, desk.ann, replace(LEFT, side="right"), key="later").round == "helpful-02"
    assert ledger(first.folder)["taken back"] == 1
    assert desk.store.rounds.close(campaign, tmp_path / "there", number=1).fingerprint == first.fingerprint
