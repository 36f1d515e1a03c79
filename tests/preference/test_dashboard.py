from __future__ import annotations

from herdling.preference.judgements import Judgement
from tests.preference.desk import Desk, gold


def choose(responses: tuple[str, str] | None, wanted: str) -> Judgement:
    """Choose the response that begins with these words, whatever side it stands on."""
    assert responses is not None
    return Judgement(side="left" if responses[0].startswith(wanted) else "right", rating="significantly")


def test_the_dashboard_sees_through_the_shuffled_sides(desk: Desk) -> None:
    campaign = desk.campaign(prompts=10, overlap=2)
    for user, wanted in ((desk.ann, "a "), (desk.bob, "a ")):
        for _ in range(10):
            held = desk.next(campaign, user)
            desk.judge(held, user, choose(held.responses, wanted))
    numbers = desk.store.dashboard.numbers(campaign)
    assert (numbers["campaign"]["same_side"]["hits"], numbers["campaign"]["same_side"]["total"]) == (10, 10)
    assert numbers["campaign"]["alpha"] == 1.0
    assert 0 < numbers["campaign"]["left"]["hits"] < 20
    assert [(each["name"], each["judgements"], each["with_others"]["share"]) for each in numbers["annotators"]] == [("ann", 10, 1.0), ("bob", 10, 1.0)]


def test_gold_counts_the_known_answer_whatever_side_it_stood_on(desk: Desk) -> None:
    campaign = desk.campaign(prompts=40, gold_share=0.5)
    desk.store.campaigns.add_gold(campaign, (gold(number, best=1) for number in range(40)))
    for number in range(40):
        held = desk.next(campaign, desk.ann)
        assert held.responses is not None
        is_gold = held.responses[0].startswith("gold")
        right = is_gold and number % 4 != 0
        best = next((text for text in held.responses if text.endswith("y") == right), "") if is_gold else held.responses[0]
        desk.judge(held, desk.ann, choose(held.responses, best))
    found = desk.store.dashboard.numbers(campaign)["annotators"][0]["gold"]
    assert 10 <= found["total"] <= 30
    assert 0 < found["hits"] < found["total"]


def test_counts_tell_where_a_campaign_stands(desk: Desk) -> None:
    campaign = desk.campaign(prompts=4)
    first = desk.next(campaign, desk.ann)
    desk.judge(first, desk.ann)
    second = desk.next(campaign, desk.ann)
    desk.store.tasks.skip(second.task, desk.ann, second.lease, "unclear", key="skip")
    desk.next(campaign, desk.bob)
    counts = desk.store.dashboard.numbers(campaign)["counts"]
    assert {name: counts[name] for name in ("judged", "skipped", "held", "prompts_waiting", "tasks")} == {
        "judged": 1,
        "skipped": 1,
        "held": 1,
        "prompts_waiting": 2,
        "tasks": 2,
    }
