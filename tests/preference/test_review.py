from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from herdling.base.comparison_records import read_comparisons
from herdling.base.errors import Refused
from herdling.preference.judgements import Judgement
from herdling.preference.review import PAGE_SIZE, Filters, Reviewed, Seen
from tests.preference.desk import LEFT, Desk, gold

ANN, BOB = "annotator-ann", "annotator-bob"


def listed(desk: Desk, campaign: str, **filters: Any) -> list[Reviewed]:
    return desk.store.reviews.page(campaign, Filters(**filters)).judgements


def seen(campaign: str, task: int, annotator: str = ANN, revision: int = 1) -> Seen:
    return Seen(campaign=campaign, task=task, annotator=annotator, revision=revision)


def choosing(responses: tuple[str, str] | None, wanted: str, **changes: Any) -> Judgement:
    """Choose the response that begins with these words, whatever side it stands on."""
    assert responses is not None
    return Judgement(side="left" if responses[0].startswith(wanted) else "right", **{"rating": "better", **changes})


def both(desk: Desk, campaign: str, number: int, wanted: tuple[str, str]) -> list[int]:
    """Let Ann and Bob judge the same tasks; the tasks where each chooses the model so named."""
    tasks = []
    for _ in range(number):
        for user, model in zip((desk.ann, desk.bob), wanted, strict=True):
            held = desk.next(campaign, user)
            desk.judge(held, user, choosing(held.responses, f"{model} "))
        tasks.append(held.task)
    return tasks


def test_a_reviewer_sees_what_the_annotator_saw_and_said_and_neither_names_nor_models(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    held = desk.next(campaign, desk.ann)
    desk.clock.now += 12
    desk.judge(held, desk.ann, Judgement(side="right", rating="slightly"))
    page = desk.store.reviews.page(campaign, Filters())
    (one,) = page.judgements
    assert (page.round, page.is_open, page.total, page.annotators) == (1, True, 1, [ANN])
    assert (one.left, one.right) == held.responses
    assert (one.annotator, one.judgement, one.seconds, one.revision) == (ANN, Judgement(side="right", rating="slightly"), 12.0, 1)
    assert [message.content for message in one.turns] == ["q0"]
    assert (one.kind, one.gold_right, one.same, one.other, one.reason) == ("prompt", None, 0, 0, None)
    assert not {"name", "user", "model", "models", "temperature"} & set(Reviewed.__dataclass_fields__)


def test_pages_hold_every_judgement_once_the_newest_task_first(desk: Desk) -> None:
    campaign, judged = desk.campaign(prompts=PAGE_SIZE + 3), []
    for _ in range(PAGE_SIZE + 3):
        held = desk.next(campaign, desk.ann)
        desk.judge(held, desk.ann)
        judged.append(held.task)
    pages = [desk.store.reviews.page(campaign, Filters(), page=number) for number in (1, 2, 3)]
    assert [len(page.judgements) for page in pages] == [PAGE_SIZE, 3, 0]
    assert [one.task for page in pages for one in page.judgements] == judged[::-1]
    assert {page.total for page in pages} == {PAGE_SIZE + 3}


def test_filters_keep_by_annotator_rating_state_and_task(desk: Desk) -> None:
    campaign = desk.campaign(prompts=4)
    tasks = {}
    for rating in ("significantly", "better", "slightly", "negligibly"):
        user = desk.ann if rating in ("significantly", "better") else desk.bob
        held = desk.next(campaign, user)
        desk.judge(held, user, replace(LEFT, rating=rating))  # type: ignore[arg-type]
        tasks[rating] = held.task
    desk.store.reviews.set_aside(seen(campaign, tasks["better"]), "careless", by=desk.bob, key="aside")
    assert [one.task for one in listed(desk, campaign, rating="slightly")] == [tasks["slightly"]]
    assert {one.task for one in listed(desk, campaign, annotator=BOB)} == {tasks["slightly"], tasks["negligibly"]}
    assert [one.task for one in listed(desk, campaign, state="set aside")] == [tasks["better"]]
    assert [one.task for one in listed(desk, campaign, state="stands", annotator=ANN)] == [tasks["significantly"]]
    assert [one.task for one in listed(desk, campaign, task=tasks["negligibly"])] == [tasks["negligibly"]]
    assert len(listed(desk, campaign)) == 4
    assert listed(desk, campaign, annotator="annotator-nobody") == []


def test_filters_keep_by_safety_label(desk: Desk) -> None:
    campaign = desk.campaign(prompts=3, name="safe", kind="safety")
    tasks = {}
    for label in ("chosen safe", "both safe", "both unsafe"):
        held = desk.next(campaign, desk.ann)
        desk.judge(held, desk.ann, replace(LEFT, safety=label))  # type: ignore[arg-type]
        tasks[label] = held.task
    for label, task in tasks.items():
        assert [one.task for one in listed(desk, campaign, safety=label)] == [task]


def test_disagreement_is_about_responses_not_sides_and_ends_with_what_is_set_aside(desk: Desk) -> None:
    campaign = desk.campaign(prompts=20, overlap=2)
    agreed = both(desk, campaign, 10, ("a", "a"))
    disputed = both(desk, campaign, 3, ("a", "b"))
    found = listed(desk, campaign, disagreed=True)
    assert sorted({one.task for one in found}) == disputed
    assert {(one.same, one.other) for one in found} == {(0, 1)}
    assert {(one.same, one.other) for one in listed(desk, campaign) if one.task in agreed} == {(1, 0)}
    sides = {(one.task, one.annotator): one.judgement.side for one in listed(desk, campaign)}
    assert any(sides.get((task, ANN)) != sides.get((task, BOB)) for task in agreed if (task, ANN) in sides)  # shuffled anew for each
    desk.store.reviews.set_aside(seen(campaign, disputed[0], BOB), "careless", by=desk.ann, key="aside")
    (left,) = (one for one in listed(desk, campaign, task=disputed[0], annotator=ANN))
    assert (left.same, left.other) == (0, 0)
    # What is set aside is still told how the others chose.
    assert [(one.annotator, one.same, one.other) for one in listed(desk, campaign, task=disputed[0], disagreed=True)] == [(BOB, 0, 1)]


def test_missed_gold_is_found_whatever_side_it_stood_on(desk: Desk) -> None:
    campaign = desk.campaign(prompts=40, gold_share=0.5)
    desk.store.campaigns.add_gold(campaign, (gold(number, best=1) for number in range(40)))
    missed, met = [], []
    for _ in range(40):
        held = desk.next(campaign, desk.ann)
        assert held.responses is not None
        if not held.responses[0].startswith("gold"):
            desk.judge(held, desk.ann)
            continue
        wrong = len(missed) <= len(met)
        desk.judge(held, desk.ann, Judgement(side="left" if held.responses[0].endswith("x" if wrong else "y") else "right", rating="better"))
        (missed if wrong else met).append(held.task)
    assert len(missed) >= 4
    found = desk.store.reviews.page(campaign, Filters(gold_failed=True)).judgements
    assert sorted(one.task for one in found) == sorted(missed)
    assert {(one.kind, one.gold_right) for one in found} == {("gold", False)}
    assert {one.gold_right for one in listed(desk, campaign) if one.task in met} <= {True}


def test_a_judgement_set_aside_stays_in_the_log_and_is_asked_of_somebody_else(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    held = desk.next(campaign, desk.ann)
    desk.judge(held, desk.ann)
    with pytest.raises(Refused, match="reason missing"):
        desk.store.reviews.set_aside(seen(campaign, held.task), " ", by=desk.bob, key="aside")
    for _ in range(2):
        desk.store.reviews.set_aside(seen(campaign, held.task), "careless", by=desk.bob, key="aside")
    assert desk.count("SELECT count(*) FROM judgements") == 2
    assert listed(desk, campaign)[0].reason == "careless"
    assert desk.store.judgements.count(campaign, desk.ann) == 0
    assert desk.store.tasks.next(campaign, desk.ann) is None
    assert desk.next(campaign, desk.bob).task == held.task


def test_what_is_put_back_stands_as_it_was_said_and_the_log_has_all_three(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=2)
    held = desk.next(campaign, desk.ann)
    desk.clock.now += 20
    desk.judge(held, desk.ann, Judgement(side="right", rating="slightly"))
    said = listed(desk, campaign)[0]
    desk.store.campaigns.put(replace(desk.store.campaigns.config(campaign), guidelines="Others.", guidelines_version=2))
    desk.clock.now += 100
    desk.store.reviews.set_aside(seen(campaign, held.task), "careless", by=desk.bob, key="aside")
    for _ in range(2):
        desk.store.reviews.put_back(seen(campaign, held.task, revision=2), by=desk.bob, key="back")
    assert listed(desk, campaign) == [replace(said, revision=3)]
    assert [desk.count(f"SELECT count(*) FROM judgements WHERE revision = {number} AND by_user = {desk.bob}") for number in (1, 2, 3)] == [0, 1, 1]
    assert desk.store.judgements.count(campaign, desk.ann) == 1
    assert desk.next(campaign, desk.bob).task != held.task  # its place is taken again
    folder = desk.store.rounds.close(campaign, tmp_path).folder
    (frozen,) = (one for split in ("train", "test") for one in read_comparisons(folder, split))
    assert (frozen.annotator, frozen.rating, frozen.seconds) == (ANN, "slightly", 20.0)
    assert (frozen.metadata["revision"], frozen.metadata["guidelines_version"]) == (3, 1)


def test_what_was_asked_of_somebody_else_meanwhile_is_judged_once_more_and_cannot_be_undone(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    held = desk.next(campaign, desk.ann)
    desk.judge(held, desk.ann)
    desk.store.reviews.set_aside(seen(campaign, held.task), "careless", by=desk.bob, key="aside")
    desk.judge(desk.next(campaign, desk.bob), desk.bob)
    desk.store.reviews.put_back(seen(campaign, held.task, revision=2), by=desk.bob, key="back")
    assert {(one.annotator, one.reason) for one in listed(desk, campaign)} == {(ANN, None), (BOB, None)}
    with pytest.raises(Refused, match="place taken"):
        desk.store.judgements.undo(held.task, desk.ann, key="undo")
    assert desk.store.judgements.count(campaign, desk.ann) == 1


def test_only_what_was_seen_is_changed(desk: Desk) -> None:
    campaign, other = desk.campaign(prompts=1), desk.campaign(name="other")
    held = desk.next(campaign, desk.ann)
    desk.judge(held, desk.ann)
    back = desk.store.judgements.undo(held.task, desk.ann, key="undo")
    reviews = desk.store.reviews
    with pytest.raises(Refused, match="not judged"):
        reviews.set_aside(seen(campaign, held.task), "careless", by=desk.bob, key="1")
    desk.judge(back, desk.ann, replace(LEFT, side="right"), key="again")
    for key, which, reason in (
        ("2", seen(campaign, held.task), "judgement changed"),
        ("3", seen(other, held.task, revision=3), "unknown judgement"),
        ("4", seen(campaign, held.task, BOB, revision=3), "unknown judgement"),
        ("5", seen(campaign, held.task, "annotator-nobody", revision=3), "unknown judgement"),
        ("6", seen(campaign, 999, revision=3), "unknown task"),
    ):
        with pytest.raises(Refused) as caught:
            reviews.set_aside(which, "careless", by=desk.bob, key=key)
        assert caught.value.reason == reason
    with pytest.raises(Refused, match="not set aside"):
        reviews.put_back(seen(campaign, held.task, revision=3), by=desk.bob, key="7")
    assert desk.count("SELECT count(*) FROM judgements") == 3
    reviews.set_aside(seen(campaign, held.task, revision=3), "careless", by=desk.bob, key="8")


def test_a_closed_round_is_shown_and_refuses_every_change(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=3)
    tasks = []
    for _ in range(3):
        held = desk.next(campaign, desk.ann)
        desk.judge(held, desk.ann)
        tasks.append(held.task)
    desk.store.reviews.set_aside(seen(campaign, tasks[0]), "careless", by=desk.bob, key="aside")
    artifact = desk.store.rounds.close(campaign, tmp_path)
    with pytest.raises(Refused, match="round closed"):
        desk.store.reviews.set_aside(seen(campaign, tasks[1]), "careless", by=desk.bob, key="late")
    with pytest.raises(Refused, match="round closed"):
        desk.store.reviews.put_back(seen(campaign, tasks[0], revision=2), by=desk.bob, key="late back")
    page = desk.store.reviews.page(campaign, Filters(), round_number=1)
    assert (page.is_open, page.total, [one.reason for one in page.judgements]) == (False, 3, [None, None, "careless"])
    assert desk.store.reviews.page(campaign, Filters()).total == 0
    with pytest.raises(Refused, match="unknown round"):
        desk.store.reviews.page(campaign, Filters(), round_number=9)
    with pytest.raises(Refused, match="unknown campaign"):
        desk.store.reviews.page("nothing", Filters())
    artifact.verify()


def test_the_frozen_round_counts_what_was_set_aside_by_its_reasons(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=4)
    for number in range(4):
        held = desk.next(campaign, desk.ann)
        desk.judge(held, desk.ann)
        if number < 3:
            desk.store.reviews.set_aside(seen(campaign, held.task), ("not read", "not read", "broken")[number], by=desk.bob, key=f"aside {number}")
    assert desk.store.dashboard.numbers(campaign)["counts"]["set_aside"] == 3
    ledger = json.loads((desk.store.rounds.close(campaign, tmp_path).folder / "ledger.json").read_text())
    assert (ledger["rows_in"], ledger["kept"], ledger["dropped"]["set aside on review"]["count"]) == (4, 1, 3)
    assert {name: count for name, count in ledger["counts"].items() if "aside" in name} == {
        "set aside on review: not read": 2,
        "set aside on review: broken": 1,
    }
