from __future__ import annotations

from dataclasses import fields, replace

import pytest

from herdling.base.errors import Refused
from herdling.preference.dealing import REPEAT_AFTER
from herdling.preference.judgements import Judgement
from herdling.preference.tasks import MAX_HELD, Assignment
from herdling.types import Completion, Message
from tests.preference.desk import LEFT, Desk, gold


def said(text: str) -> Completion:
    return Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn")


def test_prompts_come_in_order_and_nobody_gets_a_task_twice(desk: Desk) -> None:
    campaign, asked = desk.campaign(prompts=4), []
    while (held := desk.store.tasks.next(campaign, desk.ann)) is not None:
        held = desk.answered(held, desk.ann)
        asked.append(held.dialog.messages[-1].content)
        desk.judge(held, desk.ann)
    assert asked == ["q0", "q1", "q2", "q3"]


def test_a_page_that_is_loaded_again_finds_its_task_and_draft(desk: Desk) -> None:
    campaign = desk.campaign(prompts=2)
    held = desk.next(campaign, desk.ann)
    desk.store.tasks.save_draft(held.task, desk.ann, held.lease, {"side": "right", "note": "thinking"})
    again = desk.store.tasks.next(campaign, desk.ann)
    assert again is not None
    assert (again.task, again.lease, again.draft) == (held.task, held.lease, {"side": "right", "note": "thinking"})


def test_looking_at_a_held_task_shows_it_to_its_holder_and_changes_nothing(desk: Desk) -> None:
    campaign, other = desk.campaign(prompts=1), desk.campaign(name="other")
    held = desk.next(campaign, desk.ann)
    desk.clock.now += 60
    assert desk.store.tasks.look(campaign, held.task, desk.ann, held.lease) == held
    for attempt, reason in (
        (lambda: desk.store.tasks.look(campaign, held.task, desk.bob, held.lease), "stale lease"),
        (lambda: desk.store.tasks.look(campaign, held.task, desk.ann, "another"), "stale lease"),
        (lambda: desk.store.tasks.look(other, held.task, desk.ann, held.lease), "unknown task"),
    ):
        with pytest.raises(Refused, match=reason):
            attempt()
    desk.judge(held, desk.ann)
    with pytest.raises(Refused, match="already judged"):
        desk.store.tasks.look(campaign, held.task, desk.ann, held.lease)


def test_the_page_learns_neither_models_nor_whether_an_item_is_hidden(desk: Desk) -> None:
    held = desk.next(desk.campaign(prompts=1), desk.ann)
    assert held.draws is None
    assert {field.name for field in fields(Assignment)} == {"task", "dialog", "responses", "draws", "lease", "expires", "turn", "draft"}


def test_sides_are_shuffled_for_each_annotator_by_a_stored_seed(desk: Desk) -> None:
    campaign, shown = desk.campaign(prompts=60, overlap=2), {}
    for user in (desk.ann, desk.bob):
        for _ in range(60):
            held = desk.next(campaign, user)
            shown[user, held.task] = held.responses
            desk.judge(held, user)
    swapped = sum(shown[desk.ann, task] != shown[desk.bob, task] for user, task in shown if user == desk.ann)
    assert 15 < swapped < 45  # 60 fair coins
    assert all(set(shown[desk.ann, task] or ()) == set(shown[desk.bob, task] or ()) for user, task in shown if user == desk.ann)
    assert desk.count("SELECT count(DISTINCT side_seed) FROM judgements") == 120


def test_overlap_is_filled_first_and_never_passed(desk: Desk) -> None:
    campaign = desk.campaign(prompts=3, overlap=2)
    first = desk.next(campaign, desk.ann)
    desk.judge(first, desk.ann)
    assert desk.next(campaign, desk.bob).task == first.task
    carol_task = desk.next(campaign, desk.ann).task
    assert carol_task != first.task


def test_a_task_that_waits_for_its_responses_is_nobody_elses(desk: Desk) -> None:
    campaign = desk.campaign(prompts=2, overlap=2)
    mine, theirs = desk.store.tasks.next(campaign, desk.ann), desk.store.tasks.next(campaign, desk.bob)
    assert mine is not None
    assert theirs is not None
    assert mine.task != theirs.task


def test_the_first_responses_stay(desk: Desk) -> None:
    held = desk.next(desk.campaign(prompts=1), desk.ann)
    again = desk.store.tasks.fill(held.task, desk.ann, held.lease, (said("late one"), said("late two")))
    assert again.responses == held.responses


@pytest.mark.parametrize(("texts", "reason"), [(("same ", "same"), "equal responses"), (("", "full"), "empty response")])
def test_responses_that_leave_nothing_to_prefer_are_drawn_anew(desk: Desk, texts: tuple[str, str], reason: str) -> None:
    held = desk.store.tasks.next(desk.campaign(prompts=1), desk.ann)
    assert held is not None
    with pytest.raises(Refused, match=reason):
        desk.store.tasks.fill(held.task, desk.ann, held.lease, (said(texts[0]), said(texts[1])))
    again = desk.store.tasks.redraw(held.task, desk.ann, held.lease)
    assert again.draws is not None
    assert held.draws is not None
    assert {draw.seed for draw in again.draws}.isdisjoint(draw.seed for draw in held.draws)
    assert desk.answered(again, desk.ann).responses is not None


def test_a_lease_that_ran_out_gives_the_task_to_others_and_refuses_its_holder(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1, lease_seconds=600.0)
    held = desk.next(campaign, desk.ann)
    desk.store.tasks.save_draft(held.task, desk.ann, held.lease, {"note": "mine"})
    assert desk.store.tasks.next(campaign, desk.bob) is None
    desk.clock.now += 601
    for attempt in (
        lambda: desk.judge(held, desk.ann),
        lambda: desk.store.tasks.heartbeat(held.task, desk.ann, held.lease),
        lambda: desk.store.tasks.save_draft(held.task, desk.ann, held.lease, {}),
        lambda: desk.store.tasks.skip(held.task, desk.ann, held.lease, "tired", key="skip"),
    ):
        with pytest.raises(Refused, match="stale lease"):
            attempt()
    theirs = desk.store.tasks.next(campaign, desk.bob)
    assert theirs is not None
    assert (theirs.task, theirs.draft) == (held.task, {})
    assert desk.store.tasks.next(campaign, desk.ann) is None
    desk.judge(theirs, desk.bob)
    assert desk.count("SELECT count(*) FROM judgements") == 1


def test_a_lost_lease_is_taken_up_with_its_draft_where_nobody_else_came(desk: Desk) -> None:
    campaign = desk.campaign(prompts=2)
    held = desk.next(campaign, desk.ann)
    desk.store.tasks.save_draft(held.task, desk.ann, held.lease, {"note": "mine"})
    desk.clock.now += 10_000
    again = desk.store.tasks.next(campaign, desk.ann)
    assert again is not None
    assert (again.task, again.draft) == (held.task, {"note": "mine"})
    assert again.lease != held.lease
    with pytest.raises(Refused, match="stale lease"):
        desk.judge(held, desk.ann)


def test_a_heartbeat_keeps_the_lease(desk: Desk) -> None:
    held = desk.next(desk.campaign(prompts=1), desk.ann)
    for _ in range(5):
        desk.clock.now += 500
        assert desk.store.tasks.heartbeat(held.task, desk.ann, held.lease) == desk.clock.now + 600
    assert desk.judge(held, desk.ann).revision == 1


def test_a_skipped_task_goes_to_others_and_never_comes_back(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    held = desk.next(campaign, desk.ann)
    with pytest.raises(Refused, match="reason missing"):
        desk.store.tasks.skip(held.task, desk.ann, held.lease, "  ", key="skip")
    for _ in range(2):
        desk.store.tasks.skip(held.task, desk.ann, held.lease, "not my language", key="skip")
    assert desk.store.tasks.next(campaign, desk.ann) is None
    assert desk.next(campaign, desk.bob).task == held.task
    assert desk.store.dashboard.numbers(campaign)["skipped"] == {"not my language": 1}


def test_a_prompt_of_ones_own_is_one_task_however_often_it_is_sent(desk: Desk) -> None:
    campaign = desk.campaign()
    held = [desk.store.tasks.write_prompt(campaign, desk.ann, "Tell me of wool.", key="mine") for _ in range(3)]
    assert len({each.task for each in held}) == 1
    assert held[0].dialog.messages[-1].content == "Tell me of wool."
    with pytest.raises(Refused, match="empty prompt"):
        desk.store.tasks.write_prompt(campaign, desk.ann, " ", key="other")
    for number in range(MAX_HELD - 1):
        desk.store.tasks.write_prompt(campaign, desk.ann, "More.", key=f"more {number}")
    with pytest.raises(Refused, match="too many held"):
        desk.store.tasks.write_prompt(campaign, desk.ann, "Still more.", key="too many")
    closed = desk.campaign(name="closed", own_prompts=False)
    with pytest.raises(Refused, match="own prompts are off"):
        desk.store.tasks.write_prompt(closed, desk.ann, "Tell me.", key="closed")


def test_the_chosen_side_goes_on_first_and_only_for_the_one_who_chose(desk: Desk) -> None:
    campaign = desk.campaign(prompts=2, overlap=2)
    held = desk.next(campaign, desk.ann)
    assert held.responses is not None
    assert desk.judge(held, desk.ann, Judgement(side="right", rating="slightly")).can_proceed
    going_on = [desk.store.tasks.proceed(held.task, desk.ann, "Why?", key="on") for _ in range(2)]
    assert going_on[0] == going_on[1]
    assert [message.content for message in going_on[0].dialog.messages] == ["q0", held.responses[1], "Why?"]
    assert going_on[0].turn == 2
    assert desk.store.tasks.next(campaign, desk.ann) == going_on[0]
    desk.clock.now += 10_000
    assert desk.next(campaign, desk.bob).task == held.task
    back = desk.store.tasks.next(campaign, desk.ann)
    assert back is not None
    assert back.task == going_on[0].task
    with pytest.raises(Refused, match="dialog went on"):
        desk.store.tasks.proceed(held.task, desk.ann, "Why not?", key="on again")
    with pytest.raises(Refused, match="not judged"):
        desk.store.tasks.proceed(held.task, desk.bob, "Why?", key="bob")


def test_an_edit_goes_on_in_place_of_the_response_it_betters(desk: Desk) -> None:
    held = desk.next(desk.campaign(prompts=1, style="llama3"), desk.ann)
    desk.judge(held, desk.ann, replace(LEFT, edit="better still"))
    assert desk.store.tasks.proceed(held.task, desk.ann, "And?", key="on").dialog.messages[1].content == "better still"


def test_a_dialog_ends_at_its_last_turn(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1, max_turns=2)
    held = desk.next(campaign, desk.ann)
    assert desk.judge(held, desk.ann).can_proceed
    held = desk.answered(desk.store.tasks.proceed(held.task, desk.ann, "Why?", key="on"), desk.ann)
    assert not desk.judge(held, desk.ann).can_proceed
    with pytest.raises(Refused, match="dialog is full"):
        desk.store.tasks.proceed(held.task, desk.ann, "Why?", key="on once more")


def test_hidden_items_come_at_their_shares_and_look_like_all_others(desk: Desk) -> None:
    campaign = desk.campaign(prompts=150, gold_share=0.2, repeat_share=0.2)
    desk.store.campaigns.add_gold(campaign, map(gold, range(60)))
    for _ in range(150):
        held = desk.next(campaign, desk.ann)
        assert desk.judge(held, desk.ann).can_proceed
    kinds = {
        kind: desk.count("SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id WHERE t.kind = :kind", kind=kind) for kind in ("gold", "repeat")
    }
    assert all(15 <= found <= 45 for found in kinds.values()), kinds  # 30 expected of each, standard deviation 5
    assert desk.count("SELECT count(*) - count(DISTINCT repeat_of) FROM tasks WHERE kind = 'repeat'") == 0


def test_a_repeat_asks_for_what_the_same_person_judged_a_while_ago_with_the_same_responses(desk: Desk) -> None:
    campaign = desk.campaign(prompts=30, repeat_share=0.5)
    seen: dict[frozenset[str], int] = {}
    for number in range(30):
        held = desk.next(campaign, desk.ann)
        responses = frozenset(held.responses or ())
        if responses in seen:
            assert number - seen[responses] > REPEAT_AFTER
        seen.setdefault(responses, number)
        desk.judge(held, desk.ann)
    assert len(seen) < 30


def test_the_queue_of_an_annotator_is_told_by_the_seed_alone(desk: Desk) -> None:
    order = []
    for name in ("once", "twice"):
        campaign = desk.campaign(name=name, prompts=20, gold_share=0.3, seed=5)
        desk.store.campaigns.add_gold(campaign, map(gold, range(20)))
        told = []
        for _ in range(20):
            held = desk.next(campaign, desk.ann)
            told.append(held.dialog.messages[-1].content)
            desk.judge(held, desk.ann)
        order.append(told)
    assert order[0] == order[1]


def test_what_another_annotator_holds_or_said_is_out_of_reach(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    held = desk.next(campaign, desk.ann)
    for attempt in (
        lambda: desk.store.tasks.heartbeat(held.task, desk.bob, held.lease),
        lambda: desk.judge(held, desk.bob),
        lambda: desk.store.tasks.fill(held.task, desk.bob, held.lease, (said("x"), said("y"))),
    ):
        with pytest.raises(Refused, match="stale lease"):
            attempt()
    desk.judge(held, desk.ann)
    assert desk.store.judgements.history(campaign, desk.bob) == []
    with pytest.raises(Refused, match="nothing to undo"):
        desk.store.judgements.undo(held.task, desk.bob, key="undo")
    with pytest.raises(Refused, match="unknown task"):
        desk.store.tasks.heartbeat(12345, desk.ann, held.lease)
