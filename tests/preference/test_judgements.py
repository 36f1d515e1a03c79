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


def refused(desk: Desk, reason: str, judgement: Judgement, **campaign: Any) -> None:
    """Hold a judgement that must be refused for this reason, storing nothing and leaving the task held."""
    held = desk.next(desk.campaign(prompts=1, **campaign), desk.ann)
    with pytest.raises(Refused) as caught:
        desk.judge(held, desk.ann, judgement)
    assert caught.value.reason == reason
    assert desk.count("SELECT count(*) FROM judgements") == 0
    assert desk.count("SELECT count(*) FROM submissions") == 0
    assert desk.store.tasks.heartbeat(held.task, desk.ann, held.lease) > desk.clock.now


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


def test_a_rating_outside_the_scale_is_refused(desk: Desk) -> None:
    refused(desk, "rating outside the scale", Judgement(side="left", rating=cast(Rating, "splendid")))


def test_an_unknown_side_is_refused(desk: Desk) -> None:
    refused(desk, "unknown side", Judgement(side=cast(Side, "middle"), rating="better"))


def test_a_safety_campaign_needs_its_label(desk: Desk) -> None:
    refused(desk, "safety label missing", LEFT, name="safe", kind="safety")


def test_an_edit_in_a_safety_campaign_needs_its_own_label(desk: Desk) -> None:
    refused(desk, "safety label missing", replace(LEFT, safety="both safe", edit="better"), name="safe", kind="safety", style="llama3")


def test_a_helpfulness_campaign_takes_no_safety_label(desk: Desk) -> None:
    refused(desk, "safety label out of place", replace(LEFT, safety="both safe"))


def test_an_edit_belongs_to_campaigns_of_style_llama3(desk: Desk) -> None:
    refused(desk, "edit out of place", replace(LEFT, edit="better"))


def test_an_empty_edit_is_refused(desk: Desk) -> None:
    refused(desk, "empty response", replace(LEFT, edit="  "), style="llama3")


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
