from __future__ import annotations

from dataclasses import replace

import pytest

from herdling.base.errors import Refused
from herdling.preference.campaign import VariantConfig
from herdling.types import Dialog, Message
from tests.preference.desk import PLAIN, Desk, gold, prompt


def test_the_same_settings_again_change_nothing(desk: Desk) -> None:
    desk.campaign()
    desk.campaign()
    assert desk.count("SELECT count(*) FROM events WHERE kind = 'settings'") == 1
    assert [(each.name, each.closed) for each in desk.store.rounds.rounds("helpful")] == [("helpful-01", None)]
    assert desk.store.campaigns.config("helpful") == PLAIN
    assert desk.store.campaigns.names() == ["helpful"]


def test_models_and_guidelines_may_change_and_the_change_is_logged(desk: Desk) -> None:
    desk.campaign()
    changed = replace(PLAIN, models={**PLAIN.models, "c": VariantConfig(model="models/c")}, guidelines="Prefer the truth.", guidelines_version=2)
    desk.store.campaigns.put(changed)
    assert desk.store.campaigns.config("helpful") == changed
    assert desk.count("SELECT count(*) FROM guidelines") == 2
    assert desk.count("SELECT count(*) FROM events WHERE kind = 'settings'") == 2


def test_what_a_campaign_is_stands(desk: Desk) -> None:
    desk.campaign()
    for changed in (replace(PLAIN, kind="safety"), replace(PLAIN, style="llama3"), replace(PLAIN, seed=1)):
        with pytest.raises(Refused, match="settings stand"):
            desk.store.campaigns.put(changed)
    with pytest.raises(Refused, match="guidelines version reused"):
        desk.store.campaigns.put(replace(PLAIN, guidelines="Another text."))
    assert desk.store.campaigns.config("helpful") == PLAIN


def test_prompts_queue_once_and_unusable_ones_are_set_aside_by_reason(desk: Desk) -> None:
    campaign = desk.campaign(prompts=2)
    ends_with_answer = Dialog(id="x", messages=(*prompt(5).messages, Message(role="assistant", content="a5")))
    renamed = replace(prompt(0), id="the same words under another name")
    added = desk.store.campaigns.add_prompts(campaign, [prompt(1), renamed, prompt(2), prompt(2), ends_with_answer], source="again")
    assert added.added == 1
    assert added.set_aside == {"duplicate": 3, "no prompt: the dialog does not end with a message of the user": 1}
    assert desk.store.campaigns.num_waiting(campaign) == 3


def test_gold_items_stand_once_and_faulty_ones_are_set_aside_by_reason(desk: Desk) -> None:
    campaign = desk.campaign()
    equal = replace(gold(1), responses=(gold(1).responses[0],) * 2)
    safety = replace(gold(2), campaign="safety", safe=(True, False))
    added = desk.store.campaigns.add_gold(campaign, [gold(0), gold(0), equal, safety])
    assert (added.added, added.set_aside) == (1, {"equal responses": 1, "of a safety campaign": 1, "duplicate": 1})


def test_an_unknown_campaign_is_named(desk: Desk) -> None:
    for ask in (
        desk.store.campaigns.config,
        lambda name: desk.store.campaigns.add_prompts(name, [], source=""),
        lambda name: desk.store.tasks.next(name, desk.ann),
    ):
        with pytest.raises(Refused, match="unknown campaign: there is no campaign 'nowhere'"):
            ask("nowhere")
