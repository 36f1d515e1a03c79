"""The simulated annotator: a stated taste in answers, with stated noise, so that whatever learns from it can be measured against the truth.

No person is imitated. A gold reward is a weighted sum of parts that a program checks (`PARTS`); judgements of two answers follow Bradley and Terry; how strong
a preference is comes from the same noisy gap (`AnnotatorConfig`). `bayes_limit` says how often the best model there could be would agree. Costs
microseconds an answer; imports no torch. What is simulated is marked so (`Comparison.simulated`) and signed `ANNOTATOR`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import exp, inf, log
from typing import Annotated, NamedTuple

from pydantic import Field

from herdling.base.decode import settings
from herdling.base.errors import SettingsError
from herdling.base.seeds import stream
from herdling.starter.refusals import HARMFUL_ANSWER, OUT_OF_SCOPE_ANSWER
from herdling.types import Campaign, Comparison, Completion, Dialog, Message, Question, Rating

ANNOTATOR = "simulated"
"""The name that its judgements are signed with."""
PARTS = ("correct", "format", "short", "polite", "safe")
WEIGHTS: Mapping[Campaign, Mapping[str, float]] = {
    "helpfulness": {"correct": 2.0, "format": 0.75, "short": 1.0, "polite": 0.5, "safe": 1.0},
    "safety": {"correct": 0.25, "format": 0.25, "short": 0.5, "polite": 0.75, "safe": 3.0},
}
"""How much each part counts in a campaign: what one asks for first, the other asks for last."""
LONG = 24
"""An answer of this many words is not short at all; between, each word costs the same."""
LEVELS: tuple[Rating, ...] = ("negligibly", "slightly", "better", "significantly")
_POLITE = frozenset(("sorry", "please", "thanks", "thank", "welcome", "hello", "hi", "goodbye", "sure"))
_WORD = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*")


@settings
class AnnotatorConfig:
    """How noisy the simulated annotator is, and how it grades. All in units of the gold reward, in which a right answer is worth 2."""

    temperature: Annotated[float, Field(gt=0)] = 0.5
    """P(a over b) = sigmoid((gold of a - gold of b) / temperature)."""
    thresholds: tuple[float, float, float] = (0.5, 1.5, 2.5)
    """From which size of the noisy gap on a choice is called slightly better, better and significantly better; below, negligibly."""

    def __post_init__(self) -> None:
        low, middle, high = self.thresholds
        if not 0 < low < middle < high:
            raise SettingsError(f"annotator.thresholds: found {list(self.thresholds)}, expected three rising numbers above 0")


class Judgement(NamedTuple):
    """Whether the first of two answers was chosen, how strongly, and the noisy gap (first less second) that says so."""

    first_chosen: bool
    rating: Rating
    noisy_gap: float


def questions_of(dialog: Dialog) -> Iterator[Question]:
    """Yield each turn of a dialog as a question: what was said before it, and the given answer as the accepted one. Its id ends with the user's turn."""
    turn = 0
    for index, message in enumerate(dialog.messages):
        turn += message.role == "user"
        if message.role == "assistant" and index and dialog.messages[index - 1].role == "user":
            asked = Dialog(id=f"{dialog.id}/{turn}", messages=dialog.messages[:index], tools=dialog.tools)
            yield Question(id=asked.id, group="adversarial" if message.content == HARMFUL_ANSWER else "harmless", dialog=asked, accepted=(message.content,))


def is_harmful(question: Question) -> bool:
    """Say whether the question is a wish to hurt someone: one that must be refused."""
    return HARMFUL_ANSWER in question.accepted


def refuses(answer: str) -> bool:
    """Say whether an answer turns the question down, in any words that begin so or say so, behind any opening."""
    said = answer.lower()
    return said.startswith("sorry") or "sorry, i" in said or "cannot help" in said


def is_safe(question: Question, answer: str) -> bool:
    """Say whether an answer does no harm: the label of a safety campaign. A needless refusal is safe, though not good."""
    return not is_harmful(question) or refuses(answer)


def parts(question: Question, answer: str) -> dict[str, float]:
    """Return what the answer has of each of `PARTS`, from 0 to 1.

    correct   the words of an accepted answer stand in it, whatever its form
    format    its form (letter case, marks around it, `Sure:`, `Done.`, said twice, one word) is that of an accepted answer
    short     1 for no words, 0 for `LONG` or more
    polite    it has a polite word
    safe      it refuses what must be refused, and does not refuse what is harmless; for what lies outside of the assistant's field either will do
    """
    words = _WORD.findall(answer.lower())
    in_scope = not {HARMFUL_ANSWER, OUT_OF_SCOPE_ANSWER} & set(question.accepted)
    good = refuses(answer) if is_harmful(question) else not (in_scope and refuses(answer))
    return {
        "correct": float(any(_contains(core(answer), core(text)) for text in question.accepted)),
        "format": float(any(form(answer) == form(text) for text in question.accepted)),
        "short": max(0.0, 1 - len(words) / LONG),
        "polite": float(not _POLITE.isdisjoint(words)),
        "safe": float(good),
    }


def gold_reward(question: Question, answer: str, campaign: Campaign) -> float:
    """Return the hidden reward of an answer: the sum of its parts, each times its weight in the campaign."""
    found = parts(question, answer)
    return sum(weight * found[part] for part, weight in WEIGHTS[campaign].items())


def core(text: str) -> tuple[str, ...]:
    """Return what a text says whatever its form: its words in lower case, without `Sure:` before and `Done.` after, once if said twice."""
    words = _WORD.findall(text.lower())
    words = words[1:] if words[:1] == ["sure"] and len(words) > 1 else words
    words = words[:-1] if words[-1:] == ["done"] and len(words) > 1 else words
    half = len(words) // 2
    return tuple(words[:half] if words and words == words[:half] * 2 else words)


def form(text: str) -> tuple[str | bool, ...]:
    """Return the form of a text whatever it says: letter case, first and last mark, `Sure:`, `Done.`, said twice, one word."""
    said = " ".join(text.split())
    words = _WORD.findall(said.lower())
    case = "upper" if said.isupper() else "lower" if said.islower() else "mixed"
    first, last = (mark if mark and not mark.isalnum() else "" for mark in (said[:1], said[-1:]))
    twice = len(words) > 1 and words == words[: len(words) // 2] * 2
    return case, first, last, said.startswith("Sure: "), said.endswith(" Done."), twice, len(words) == 1


def _contains(words: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))


def judge(gap: float, annotator: AnnotatorConfig, seed: int) -> Judgement:
    """Choose between two answers whose gold rewards differ by `gap` (first less second), with the noise of this seed.

    The noise is logistic with scale `temperature`, so that P(noisy gap > 0) = sigmoid(gap / temperature): Bradley and Terry's model.
    """
    uniform = float(stream(seed, "simulated annotator").random())
    noisy = gap + annotator.temperature * (log(max(uniform, 1e-300)) - log(1 - uniform))
    return Judgement(noisy > 0, rating_of(abs(noisy), annotator), noisy)


def rating_of(size: float, annotator: AnnotatorConfig) -> Rating:
    """Return the level of a gap of this size."""
    return LEVELS[sum(size >= threshold for threshold in annotator.thresholds)]


def compare(
    question: Question, left: Completion, right: Completion, *, campaign: Campaign, annotator: AnnotatorConfig, seed: int, edit: bool = False
) -> Comparison:
    """Judge two answers as they were shown. `seed` is kept in the metadata beside the gold rewards and the noisy gap, so that each judgement can be made again.

    With `edit` the accepted answer is added as the edit of the chosen one (Llama 3, section 4.2.1: edited > chosen > rejected), where neither is that already.
    """
    gold = [gold_reward(question, one.message.content, campaign) for one in (left, right)]
    judged = judge(gold[0] - gold[1], annotator, seed)
    responses: tuple[Completion, ...] = (left, right)
    ranking: tuple[int, ...] = (0, 1) if judged.first_chosen else (1, 0)
    best = question.accepted[0]
    if edit and best not in (left.message.content, right.message.content):
        responses += (Completion(message=Message(role="assistant", content=best), stop_reason="end_of_turn"),)
        ranking, gold = (2, *ranking), [*gold, gold_reward(question, best, campaign)]
    safe = tuple(is_safe(question, one.message.content) for one in responses) if campaign == "safety" else None
    return Comparison(
        id=question.id,
        dialog=question.dialog,
        responses=responses,
        ranking=ranking,
        rating=judged.rating,
        safe=safe,
        edited=2 if len(responses) == 3 else None,
        campaign=campaign,
        annotator=ANNOTATOR,
        simulated=True,
        metadata={"gold": gold, "gold_temperature": annotator.temperature, "noisy_gap": judged.noisy_gap, "seed": seed, "group": question.group},
    )


class Limit(NamedTuple):
    """The expected accuracy of the best possible model, and the expected share of the pairs that it is about."""

    accuracy: float
    share: float


def bayes_limit(comparisons: Iterable[Comparison], annotator: AnnotatorConfig) -> dict[str, Limit]:
    """Return the expected accuracy of the best possible model on judgements of these pairs: for each rating level, and for `all`.

    Only the gold rewards (`metadata["gold"]`) and the safety labels are looked at, not how the judgement fell. With d = (gold of a - gold of b), T the
    temperature and F the logistic function, a pair gets the level whose gaps go from l to h with a chosen by the chance F((h - d)/T) - F((l - d)/T), with b
    chosen by F((-l - d)/T) - F((-h - d)/T). Whoever knows d and nothing else can do no better than name the side of the larger gold reward, at every level: the
    limit of a level is the sum of the larger side's chances over the sum of both. A pair of a safety campaign with one safe answer was kept only because that
    one was chosen (Llama 2, section 3.2.1): it has no other side, its chances are divided by their sum, and the best model is always right about it.
    """
    edges = list(zip((0.0, *annotator.thresholds), (*annotator.thresholds, inf), LEVELS, strict=True))
    right, mass = dict.fromkeys(LEVELS, 0.0), dict.fromkeys(LEVELS, 0.0)
    count = 0
    for count, comparison in enumerate(comparisons, start=1):  # noqa: B007 - the last number is how many there were
        first, second = comparison.judged[0], comparison.judged[-1]
        safe, gold = comparison.safe, comparison.metadata["gold"]
        gap = (gold[first] - gold[second]) / annotator.temperature
        one_sided = safe is not None and safe[first] != safe[second]
        gap = gap if one_sided else abs(gap)
        kept = _logistic(gap) if one_sided else 1.0
        for low, high, level in edges:
            low, high = low / annotator.temperature, high / annotator.temperature
            hit = (_logistic(high - gap) - _logistic(low - gap)) / kept
            miss = 0.0 if one_sided else _logistic(-low - gap) - _logistic(-high - gap)
            right[level] += hit
            mass[level] += hit + miss
    limits: dict[str, Limit] = {level: Limit(right[level] / mass[level], mass[level] / count) for level in reversed(LEVELS) if mass[level]}
    return limits | {"all": Limit(sum(right.values()) / count, 1.0)} if count else {}


def _logistic(value: float) -> float:
    return 0.0 if value < -700 else 1 / (1 + exp(-value))
