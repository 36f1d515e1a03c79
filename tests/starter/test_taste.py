"""The simulated annotator judges as it says, and its Bayes limit is what brute force finds."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest

from herdling.base.comparison_records import fault
from herdling.base.decode import decode
from herdling.base.errors import SettingsError
from herdling.starter import refusals
from herdling.starter.dialogs import dialogs
from herdling.starter.hands import RAMBLING
from herdling.starter.taste import (
    LEVELS,
    LONG,
    PARTS,
    WEIGHTS,
    AnnotatorConfig,
    bayes_limit,
    compare,
    gold_reward,
    is_safe,
    judge,
    parts,
    questions_of,
    rating_of,
    refuses,
)
from herdling.starter.wishes import WISHES
from herdling.types import Campaign, Comparison, Completion, Dialog, Message, Question, Role

NOISE = AnnotatorConfig(temperature=0.8, thresholds=(0.5, 1.5, 2.5))


def question(asked: str, *accepted: str) -> Question:
    return Question(id="q", group="", dialog=Dialog(id="q", messages=(Message(role="user", content=asked),)), accepted=accepted)


def answer(text: str) -> Completion:
    return Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn")


WHERE = question("Where is dedent?", "It is in textwrap.")
QUOTED = question("Where is dedent? Answer in quotes.", '"It is in textwrap."')
HARM = question("How do I steal a car?", refusals.HARMFUL_ANSWER)
SCOPE = question("What is the weather in Oslo?", refusals.OUT_OF_SCOPE_ANSWER)


def pair(first: float, second: float, *, safe: tuple[bool, bool] | None = None) -> Comparison:
    asked = HARM.dialog
    return Comparison(id="p", dialog=asked, responses=(answer("a"), answer("b")), ranking=(0, 1), safe=safe, metadata={"gold": [first, second]})


@pytest.mark.parametrize(
    ("asked", "said", "expected"),
    [
        (WHERE, "It is in textwrap.", {"correct": 1, "format": 1, "short": 1 - 4 / LONG, "polite": 0, "safe": 1}),
        (WHERE, "It is in text.", {"correct": 0, "format": 1, "short": 1 - 4 / LONG, "polite": 0, "safe": 1}),
        (WHERE, '"It is in textwrap."', {"correct": 1, "format": 0, "short": 1 - 4 / LONG, "polite": 0, "safe": 1}),
        (WHERE, refusals.HARMFUL_ANSWER, {"correct": 0, "format": 1, "short": 1 - 6 / LONG, "polite": 1, "safe": 0}),
        (QUOTED, '"It is in calendar."', {"correct": 0, "format": 1, "short": 1 - 4 / LONG, "polite": 0, "safe": 1}),
        (HARM, refusals.HARMFUL_ANSWER, {"correct": 1, "format": 1, "short": 1 - 6 / LONG, "polite": 1, "safe": 1}),
        (HARM, "Use shutil.move.", {"correct": 0, "format": 1, "short": 1 - 2 / LONG, "polite": 0, "safe": 0}),
        (HARM, "I cannot help with that", {"correct": 0, "format": 0, "short": 1 - 5 / LONG, "polite": 0, "safe": 1}),
        (SCOPE, refusals.HARMFUL_ANSWER, {"correct": 0, "format": 1, "short": 1 - 6 / LONG, "polite": 1, "safe": 1}),
        (SCOPE, "It is in textwrap.", {"correct": 0, "format": 1, "short": 1 - 4 / LONG, "polite": 0, "safe": 1}),
        (WHERE, "word " * LONG, {"correct": 0, "format": 0, "short": 0, "polite": 0, "safe": 1}),
    ],
)
def test_parts_by_hand(asked: Question, said: str, expected: dict[str, float]) -> None:
    assert parts(asked, said) == pytest.approx(expected)


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: wish.name)
def test_an_answer_that_obeys_a_wish_is_right_in_content_and_form_and_the_plain_one_in_content_only(wish: object) -> None:
    obeyed = wish.obey("It is in textwrap.")  # type: ignore[attr-defined]
    asked = question("Where is dedent?", obeyed)
    right, plain = parts(asked, obeyed), parts(asked, "It is in textwrap.")
    assert (right["correct"], right["format"]) == (1, 1)
    assert (plain["correct"], plain["format"]) == (1, 0)
    wrong = parts(asked, wish.obey("It is in calendar."))  # type: ignore[attr-defined]
    assert (wrong["correct"], wrong["format"]) == (0, 1)


def test_a_number_is_right_as_a_whole_word_only() -> None:
    asked = question("3 + 4 = ?", "7")
    assert [parts(asked, said)["correct"] for said in ("7", "17", "7.5", "It is 7.")] == [1, 0, 0, 1]


def test_gold_reward_is_the_weighted_sum_of_the_parts() -> None:
    assert gold_reward(HARM, "Use shutil.move.", "safety") == pytest.approx(0.25 + 0.5 * (1 - 2 / LONG))
    assert gold_reward(WHERE, "It is in textwrap.", "helpfulness") == pytest.approx(2 + 0.75 + (1 - 4 / LONG) + 1)
    assert all(set(weights) == set(PARTS) for weights in WEIGHTS.values())


def test_only_harm_that_was_not_refused_is_unsafe() -> None:
    said = [(HARM, refusals.HARMFUL_ANSWER), (HARM, "Use shutil.move."), (WHERE, refusals.HARMFUL_ANSWER), (SCOPE, "Rain.")]
    assert [is_safe(*one) for one in said] == [True, False, True, True]


def test_every_training_answer_of_the_world_is_correct_in_its_own_eyes() -> None:
    for dialog in dialogs(1, num_train=500, num_validation=0).train:
        asked = list(questions_of(dialog))
        assert len(asked) == len(dialog.messages) // 2
        for one in asked:
            found = parts(one, one.accepted[0])
            assert (found["correct"], found["format"], found["safe"]) == (1, 1, 1), one


def test_turns_are_those_of_the_user_whatever_stands_before_or_between() -> None:
    roles: tuple[Role, ...] = ("system", "user", "assistant", "user", "assistant", "tool", "assistant", "user", "assistant")
    dialog = Dialog(id="d", messages=tuple(Message(role=role, content=f"{role} {place}") for place, role in enumerate(roles)))
    assert [question.id for question in questions_of(dialog)] == ["d/1", "d/2", "d/3"]
    assert [question.accepted for question in questions_of(dialog)] == [("assistant 2",), ("assistant 4",), ("assistant 8",)]


def test_choice_follows_bradley_and_terry() -> None:
    for gap in (-1.5, 0.0, 0.7):
        chosen = np.mean([judge(gap, NOISE, seed).first_chosen for seed in range(6000)])
        assert chosen == pytest.approx(1 / (1 + exp(-gap / 0.8)), abs=4 * 0.5 / 6000**0.5)


def test_a_judgement_is_a_function_of_its_seed() -> None:
    assert judge(0.3, NOISE, 5) == judge(0.3, NOISE, 5)
    assert len({judge(0.3, NOISE, seed).noisy_gap for seed in range(50)}) == 50


def test_rating_is_read_off_the_noisy_gap_by_the_stated_thresholds() -> None:
    assert [rating_of(size, NOISE) for size in (0, 0.49, 0.5, 1.49, 1.5, 2.49, 2.5, 9)] == [level for level in LEVELS for _ in range(2)]
    for seed in range(100):
        judged = judge(0.5, NOISE, seed)
        assert judged.rating == rating_of(abs(judged.noisy_gap), NOISE)


@pytest.mark.parametrize("thresholds", [(0.0, 1.0, 2.0), (1.0, 1.0, 2.0), (3.0, 2.0, 1.0)])
def test_thresholds_that_do_not_rise_are_refused(thresholds: tuple[float, float, float]) -> None:
    with pytest.raises(SettingsError, match="three rising numbers"):
        decode(AnnotatorConfig, {"thresholds": list(thresholds)}, "stages.collect.annotator")


def simulated_limit(pairs: list[Comparison], draws: int) -> dict[str, tuple[float, float]]:
    """Judge every pair many times, leaving out what a campaign leaves out; return accuracy of `the larger gold` (or the safe side) and share, by level."""
    rng = np.random.default_rng(3)
    weight: dict[str, float] = dict.fromkeys(LEVELS, 0.0)
    right: dict[str, float] = dict.fromkeys(LEVELS, 0.0)
    for one in pairs:
        gold, safe = one.metadata["gold"], one.safe
        # The difference of two Gumbel variables is logistic: another road to the noise than the one that the annotator takes.
        noisy = gold[0] - gold[1] + NOISE.temperature * (rng.gumbel(size=draws) - rng.gumbel(size=draws))
        one_sided = safe is not None and safe[0] != safe[1]
        kept = noisy > 0 if one_sided else np.ones(draws, bool)  # in these pairs the safe answer stands first
        hit = kept if one_sided else np.full(draws, 0.5) if gold[0] == gold[1] else (noisy > 0) == (gold[0] > gold[1])
        sizes = np.abs(noisy)
        for level, low, high in zip(LEVELS, (0.0, *NOISE.thresholds), (*NOISE.thresholds, np.inf), strict=True):
            inside = kept & (sizes >= low) & (sizes < high)
            weight[level] += inside.sum() / kept.sum()
            right[level] += hit[inside].sum() / kept.sum()
    limits = {level: (right[level] / weight[level], weight[level] / len(pairs)) for level in LEVELS}
    return limits | {"all": (sum(right.values()) / len(pairs), 1.0)}


def test_bayes_limit_is_what_brute_force_finds() -> None:
    pairs = [pair(0.0, 0.0), pair(1.0, 0.4), pair(-0.2, 2.0), pair(3.0, 0.1), pair(0.3, 0.25)]
    pairs += [pair(2.0, 1.0, safe=(True, False)), pair(1.0, 1.2, safe=(True, False)), pair(1.0, 2.5, safe=(True, True)), pair(0.2, 0.1, safe=(False, False))]
    stated = bayes_limit(pairs, NOISE)
    found = simulated_limit(pairs, 200_000)
    assert set(stated) == set(found)
    for level, (accuracy, share) in found.items():
        assert stated[level] == pytest.approx((accuracy, share), abs=0.003), level


def test_bayes_limit_by_hand() -> None:
    assert bayes_limit([pair(0.0, 0.0)], NOISE)["all"].accuracy == pytest.approx(0.5)
    assert bayes_limit([pair(0.0, 0.8)], NOISE)["all"].accuracy == pytest.approx(1 / (1 + exp(-1)))
    assert bayes_limit([pair(0.0, 5.0, safe=(True, False))], NOISE)["all"].accuracy == pytest.approx(1.0)
    assert bayes_limit([], NOISE) == {}


def test_bayes_limit_rises_with_the_level_and_does_not_look_at_how_it_fell() -> None:
    pairs = [pair(0.0, gap) for gap in (0.1, 0.5, 1.0, 2.0, 3.0)]
    limits = bayes_limit(pairs, NOISE)
    accuracies = [limits[level].accuracy for level in LEVELS]
    assert accuracies == sorted(accuracies)
    turned = bayes_limit([replace(one, ranking=(1, 0)) for one in pairs], NOISE)
    assert all(turned[level] == pytest.approx(limits[level]) for level in (*LEVELS, "all"))


@pytest.mark.parametrize("campaign", ["helpfulness", "safety"])
def test_a_comparison_is_marked_as_simulated_and_holds_its_gold(campaign: Campaign) -> None:
    made = compare(HARM, answer("Use shutil.move."), answer(refusals.HARMFUL_ANSWER), campaign=campaign, annotator=AnnotatorConfig(temperature=0.01), seed=7)
    assert (made.simulated, made.annotator, made.campaign) == (True, "simulated", campaign)
    assert made.metadata["gold"] == [gold_reward(HARM, one.message.content, campaign) for one in made.responses]
    assert made.ranking == (1, 0)
    assert made.safe == ((False, True) if campaign == "safety" else None)
    assert fault(made) is None
    assert judge(made.metadata["gold"][0] - made.metadata["gold"][1], AnnotatorConfig(temperature=0.01), made.metadata["seed"]).rating == made.rating


def test_an_edit_is_the_accepted_answer_and_ranks_first_where_neither_answer_is_it() -> None:
    sure = AnnotatorConfig(temperature=0.01)
    made = compare(WHERE, answer("It is in text."), answer(refusals.HARMFUL_ANSWER), campaign="helpfulness", annotator=sure, seed=7, edit=True)
    assert (made.ranking, made.edited, made.judged) == ((2, 0, 1), 2, (0, 1))
    assert made.responses[2].message.content == "It is in textwrap."
    assert made.metadata["gold"][2] == max(made.metadata["gold"])
    assert fault(made) is None
    right = compare(WHERE, answer("It is in textwrap."), answer("It is in text."), campaign="helpfulness", annotator=sure, seed=7, edit=True)
    assert (right.ranking, right.edited) == ((0, 1), None)


@pytest.mark.parametrize(
    "answer", [*refusals.ANSWERS, *(lead.format(a=answer) for lead in RAMBLING for answer in refusals.ANSWERS), '"Sorry, I cannot help with that."']
)
def test_a_refusal_is_one_in_any_form_and_behind_any_opening(answer: str) -> None:
    assert refuses(answer)
    assert not refuses(RAMBLING[0].format(a="It is in typing."))
