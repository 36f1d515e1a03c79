"""Demonstrations by many hands: the same questions, answers of differing quality, the shares that are stated."""

from __future__ import annotations

from collections import Counter

from herdling.starter import dialogs
from herdling.starter.hands import HANDS, OBLIGED, OBLIGING, RAMBLING, demonstrations
from herdling.starter.refusals import HARMFUL_ANSWER
from herdling.starter.taste import WEIGHTS, parts, questions_of

NUM = 4000


def test_only_answers_change_and_the_same_seed_gives_the_same() -> None:
    clean = dialogs(3, num_train=300, num_validation=2).train
    written = list(demonstrations(clean, 3))
    assert written == list(demonstrations(clean, 3)) != list(demonstrations(clean, 4))
    for before, after in zip(clean, written, strict=True):
        assert before.id == after.id
        assert [(one.role, one.tags) for one in before.messages] == [(one.role, one.tags) for one in after.messages]
        assert [one for one in before.messages if one.role == "user"] == [one for one in after.messages if one.role == "user"]


def test_shares_are_those_stated_and_the_taste_tells_hands_apart() -> None:
    clean = dialogs(3, num_train=NUM, num_validation=2).train
    written = list(demonstrations(clean, 3))
    harmful, rambling, same, gold = Counter[bool](), 0, 0, Counter[str]()
    total = 0
    for before, after in zip(clean, written, strict=True):
        answers = [one.content for one in after.messages if one.role == "assistant"]
        for question, answer in zip(questions_of(before), answers, strict=True):
            if question.accepted == (HARMFUL_ANSWER,):
                harmful[answer in OBLIGED] += 1
                continue
            total += 1
            is_long = any(answer.startswith(lead.split("{a}")[0]) for lead in RAMBLING)
            rambling += is_long
            same += answer in question.accepted
            found = sum(weight * parts(question, answer)[part] for part, weight in WEIGHTS["helpfulness"].items())
            gold["rambling" if is_long else "plain" if answer in question.accepted else "other"] += round(1000 * found)
    assert abs(harmful[True] / harmful.total() - OBLIGING) < 0.06
    assert abs(rambling / total - HANDS["rambling"]) < 0.02
    assert HANDS["plain"] - 0.02 < same / total < HANDS["plain"] + HANDS["careless"]
    other = total - rambling - same
    assert gold["plain"] / same > gold["rambling"] / rambling + 500 > gold["other"] / other + 500
