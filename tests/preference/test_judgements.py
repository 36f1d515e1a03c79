from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from herdling.base.errors import Refused
from herdling.preference.judgements import Judgement
from herdling.preference.rating import Side
from herdling.types import Rating
from tests.preference.desk import LEFT, Desk


def test_a_submission_sent_again_returns_its_first_result_and_is_stored_once(desk: Desk) -> None:
    held = desk.next(desk.campaign(prompts=1), desk.ann)
    results = [desk.judge(held, desk.ann) for _ in range(3)]
    assert results[0] == results[1] == results[2]
    assert (results[0].revision, results[0].round) == (1, "helpful-01")
    assert desk.count("SELECT count(*) FROM judgements") == 1
    with pytest.raises(Refused, match="already judged"):
        desk.judge(held, desk.ann, key="another key")
    with pytest.raises(Refused, match="key reused"):
        desk.judge(held, desk.ann, replace(LEFT, side="right"))


SAFE = {"name": "safe", "kind": "safety"}


@pytest.mark.parametrize(
    ("judgement", "campaign", "reason"),
    [
        pytest.param(Judgement(side="left", rating=cast(Rating, "splendid")), {}, "rating outside the scale", id="a rating outside the scale"),
        pytest.param(Judgement(side=cast(Side, "middle"), rating="better"), {}, "unknown side", id="an unknown side"),
        pytest.param(LEFT, SAFE, "safety label missing", id="a safety campaign needs its label"),
        pytest.param(
            replace(LEFT, safety="both safe", edit="better"), {**SAFE, "style": "llama3"}, "safety label missing", id="an edit there needs its own label"
        ),
        pytest.param(replace(LEFT, safety="both safe"), {}, "safety label out of place", id="a helpfulness campaign takes no safety label"),
        pytest.param(replace(LEFT, edit="better"), {}, "edit out of place", id="an edit belongs to campaigns of style llama3"),
        pytest.param(replace(LEFT, edit="  "), {"style": "llama3"}, "empty response", id="an empty edit"),
    ],
)
def test_a_judgement_that_cannot_be_is_refused_by_name_stores_nothing_and_leaves_the_task_held(
    desk: Desk, judgement: Judgement, campaign: dict[str, Any], reason: str
) -> None:
    held = desk.next(desk.campaign(prompts=1, **campaign), desk.ann)
    with pytest.raises(Refused) as caught:
        desk.judge(held, desk.ann, judgement)
    assert caught.value.reason == reason
    assert desk.count("SELECT count(*) FROM judgements") == 0
    assert desk.count("SELECT count(*) FROM submissions") == 0
    assert desk.store.tasks.heartbeat(held.task, desk.ann, held.lease) > desk.clock.now


def test_an_edit_that_equals_the_chosen_response_changes_nothing_and_is_refused(desk: Desk) -> None:
    held = desk.next(desk.campaign(prompts=1, style="llama3"), desk.ann)
    assert held.responses is not None
    for side, text in (("left", held.responses[0]), ("right", held.responses[1] + " ")):
        with pytest.raises(Refused, match="edit changes nothing"):
            desk.judge(held, desk.ann, Judgement(side=cast(Side, side), rating="better", edit=text))
    with pytest.raises(Refused, match="equal responses"):
        desk.judge(held, desk.ann, replace(LEFT, edit=held.responses[1]))
    assert desk.count("SELECT count(*) FROM judgements") == 0


def test_a_task_without_responses_cannot_be_judged(desk: Desk) -> None:
    held = desk.store.tasks.next(desk.campaign(prompts=1), desk.ann)
    assert held is not None
    with pytest.raises(Refused, match="no responses yet"):
        desk.judge(held, desk.ann)


def test_a_judgement_for_a_closed_round_is_refused_and_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=3, overlap=2)
    done = desk.next(campaign, desk.ann)
    desk.judge(done, desk.ann)
    held = desk.next(campaign, desk.ann)
    artifact = desk.store.rounds.close(campaign, tmp_path / "rounds")
    for attempt in (
        lambda: desk.judge(held, desk.ann),
        lambda: desk.store.judgements.undo(done.task, desk.ann, key="undo"),
        lambda: desk.store.tasks.proceed(done.task, desk.ann, "Why?", key="on"),
        lambda: desk.store.tasks.heartbeat(held.task, desk.ann, held.lease),
    ):
        with pytest.raises(Refused, match="round closed"):
            attempt()
    assert desk.count("SELECT count(*) FROM judgements") == 1
    artifact.verify()
    asked_again = {desk.next(campaign, user).dialog.messages[-1].content for user in (desk.ann,)}
    assert asked_again == {"q1"}  # what nobody judged goes back to the queue, as a task of the new round


def test_undo_is_a_revision_and_the_draft_is_what_was_said(desk: Desk) -> None:
    campaign = desk.campaign(prompts=2)
    held = desk.next(campaign, desk.ann)
    desk.judge(held, desk.ann)
    other = desk.next(campaign, desk.ann)
    back = [desk.store.judgements.undo(held.task, desk.ann, key="undo") for _ in range(2)]
    assert back[0] == back[1]
    assert (back[0].task, back[0].responses, back[0].draft["side"]) == (held.task, held.responses, "left")
    with pytest.raises(Refused, match="stale lease"):
        desk.store.judgements.submit(held.task, desk.ann, held.lease, LEFT, key="old page")
    again = desk.store.judgements.submit(held.task, desk.ann, back[0].lease, replace(LEFT, side="right"), key="second thought")
    assert again.revision == 3
    assert desk.count("SELECT count(*) FROM judgements") == 3
    assert [line.judgement.side for line in desk.store.judgements.history(campaign, desk.ann)] == ["right"]
    still = desk.store.tasks.next(campaign, desk.ann)
    assert still is not None
    assert still.task == other.task


def test_what_a_dialog_went_on_from_cannot_be_undone(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    held = desk.next(campaign, desk.ann)
    desk.judge(held, desk.ann)
    assert desk.store.judgements.history(campaign, desk.ann)[0].can_undo
    desk.store.tasks.proceed(held.task, desk.ann, "Why?", key="on")
    with pytest.raises(Refused, match="dialog went on"):
        desk.store.judgements.undo(held.task, desk.ann, key="undo")
    assert not desk.store.judgements.history(campaign, desk.ann)[0].can_undo


@pytest.mark.parametrize(("told", "stored"), [(None, 90), (40.0, 40), (500.0, 90), (-1.0, 90)])
def test_time_on_task_is_what_the_page_saw_but_never_more_than_passed(desk: Desk, told: float | None, stored: int) -> None:
    held = desk.next(desk.campaign(prompts=1), desk.ann)
    desk.clock.now += 90
    desk.store.judgements.submit(held.task, desk.ann, held.lease, LEFT, key="key", seconds=told)
    assert desk.count("SELECT seconds FROM judgements") == stored
