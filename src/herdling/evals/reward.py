"""What every reward model reports, from its scores of judged responses (Llama 2, tables 7, 8, 28 and 29; figure 6).

Accuracy by rating level, turn and difference in length, each with a 95 % interval and beside the accuracy of going by length alone; calibration; where scores
lie; bias of position; recall of safe and unsafe responses; and what the best model could reach, where the hidden truth is known. Plain values in, plain data
out: no model, no torch. Lengths are in characters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from herdling.base.comparison_records import RATINGS, REWARD_MODEL
from herdling.base.errors import DataError
from herdling.base.intervals import paired_lead, wilson
from herdling.evals.calibration import calibration, distribution, sigmoid
from herdling.types import Comparison

Row = dict[str, Any]
MAX_TURN = 5
"""Answers of this turn and later ones are counted together."""
LENGTH_EDGES = ((0.5, "under half as long"), (0.8, "shorter"), (1.25, "about as long"), (2.0, "longer"))
LONGEST = "at least twice as long"
SAFETY_SPLIT = {(True, False): "chosen safe, other not", (True, True): "both safe", (False, False): "both unsafe"}
"""(chosen is safe, rejected is safe) -> column of Llama 2, table 29."""


@dataclass(frozen=True, slots=True)
class ScoredComparison:
    """A judged comparison and the model's score of each response, in the order of `comparison.responses`. `set` names where it came from."""

    comparison: Comparison
    scores: tuple[float, ...]
    set: str = ""

    @property
    def difference(self) -> float:
        """Score of the chosen response less that of the rejected; an edit is left aside, as the rating leaves it."""
        judged = self.comparison.judged
        return self.scores[judged[0]] - self.scores[judged[-1]]

    @property
    def longer(self) -> float:
        """1 where the chosen response is longer than the rejected, 0 where it is shorter, 0.5 where both are of one length."""
        chosen, rejected = self._lengths
        return 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0

    @property
    def length_bucket(self) -> str:
        """How long the chosen response is beside the rejected."""
        chosen, rejected = self._lengths
        ratio = max(1, chosen) / max(1, rejected)
        return next((name for edge, name in LENGTH_EDGES if ratio < edge), LONGEST)

    @property
    def _lengths(self) -> tuple[int, int]:
        judged = self.comparison.judged
        return response_length(self.comparison, judged[0]), response_length(self.comparison, judged[-1])


def response_length(comparison: Comparison, index: int) -> int:
    """Return the length of a response in characters; a tool call counts by its name and its arguments as JSON."""
    message = comparison.responses[index].message
    return len(message.content) + sum(len(call.name) + len(json.dumps(dict(call.arguments))) for call in message.tool_calls)


def report_card(scored: Sequence[ScoredComparison]) -> Row:
    """Return all that a reward model reports: `all` comparisons together, and each of the `sets` and `campaigns` alone.

    Raises:
        DataError: there is nothing to report on, or a comparison has another number of scores than of responses, or a score that is no finite number.
    """
    if not scored:
        raise DataError("reward report: no scored comparison, so there is nothing to report. Give test comparisons")
    for one in scored:
        if len(one.scores) != len(one.comparison.responses) or not all(isfinite(score) for score in one.scores):
            count = len(one.comparison.responses)
            raise DataError(f"comparison {one.comparison.id}: found the scores {list(one.scores)}, expected {count} finite numbers, one a response")
    return {
        "all": card(scored),
        "sets": {name: card(inside) for name, inside in groups(scored, lambda one: one.set).items() if name},
        "campaigns": tallies(scored, lambda one: one.comparison.campaign),
    }


def card(scored: Sequence[ScoredComparison]) -> Row:
    """Return every measure of these comparisons; a part that nothing is known about (ratings, safety, gold rewards) is left out."""
    judged = [one.comparison.judged for one in scored]
    chosen = [one.scores[indices[0]] for one, indices in zip(scored, judged, strict=True)]
    rejected = [one.scores[indices[-1]] for one, indices in zip(scored, judged, strict=True)]
    parts: Row = {
        "accuracy": tally(scored),
        "by_rating": tallies([one for one in scored if one.comparison.rating], lambda one: str(one.comparison.rating), RATINGS),
        "by_turn": tallies(scored, lambda one: f"{MAX_TURN} or later" if one.comparison.turn >= MAX_TURN else str(one.comparison.turn)),
        "by_length": tallies(scored, lambda one: one.length_bucket, [*(name for _, name in LENGTH_EDGES), LONGEST]),
        "calibration": calibration([one.difference for one in scored]),
        "scores": distribution(chosen, rejected),
        "position": position(scored),
        "safety": safety(scored),
        "edits": edits(scored),
        "limit": limit(scored),
        "simulated": sum(one.comparison.simulated and one.comparison.annotator != REWARD_MODEL for one in scored),
        "judged_by_models": sum(one.comparison.simulated and one.comparison.annotator == REWARD_MODEL for one in scored),
    }
    return {name: part for name, part in parts.items() if part is not None and part != {}}


def tally(scored: Sequence[ScoredComparison]) -> Row:
    """Return how often the chosen response has the higher score, and what going by length alone would reach.

    Equal scores are wrong, and counted as `ties`. `longer` is how often the chosen response is the longer one (half where both are equal); `length_baseline`
    is the better of always taking the longer and always the shorter, known after the fact on these very comparisons: generous to the baseline. `lead` is the
    accuracy less that, with the 95 % interval of a paired difference.
    """
    total = len(scored)
    correct = sum(one.difference > 0 for one in scored)
    longer = sum(one.longer for one in scored)
    low, high = wilson(correct, total)
    by_longer = longer >= total - longer
    length = [one.longer if by_longer else 1 - one.longer for one in scored]
    ahead = sum((one.difference > 0) * (1 - share) for one, share in zip(scored, length, strict=True))
    behind = sum((one.difference <= 0) * share for one, share in zip(scored, length, strict=True))
    lead, lead_low, lead_high = paired_lead(ahead, behind, total)
    return {
        "total": total,
        "correct": correct,
        "ties": sum(one.difference == 0 for one in scored),
        "accuracy": correct / total,
        "low": low,
        "high": high,
        "longer": longer / total,
        "length_baseline": sum(length) / total,
        "length_direction": "longer" if by_longer else "shorter",
        "lead": lead,
        "lead_low": lead_low,
        "lead_high": lead_high,
    }


def groups(scored: Iterable[ScoredComparison], key: Callable[[ScoredComparison], str], order: Sequence[str] = ()) -> dict[str, list[ScoredComparison]]:
    """Return key -> its comparisons, in the given order, then by name."""
    found: dict[str, list[ScoredComparison]] = {}
    for one in scored:
        found.setdefault(key(one), []).append(one)
    return {name: found[name] for name in [*order, *sorted(set(found) - set(order))] if name in found}


def tallies(scored: Iterable[ScoredComparison], key: Callable[[ScoredComparison], str], order: Sequence[str] = ()) -> dict[str, Row]:
    """Return key -> `tally` of its comparisons."""
    return {name: tally(inside) for name, inside in groups(scored, key, order).items()}


def position(scored: Sequence[ScoredComparison]) -> Row | None:
    """Return how often the chosen response stood left, and the accuracy where it did and where it did not; None where no sides are known.

    A reward model reads each response alone and cannot see where it stood: a share of left far from a half is the annotators' bias, which the model can learn
    nothing of. Comparisons whose file does not tell sides (`metadata["sides_known"]` is False) are left out.
    """
    known = [one for one in scored if one.comparison.metadata.get("sides_known", True)]
    if not known:
        return None
    left, right = ([one for one in known if (one.comparison.judged[0] < one.comparison.judged[-1]) is side] for side in (True, False))
    low, high = wilson(len(left), len(known))
    sides = {name: tally(inside) for name, inside in (("chosen left", left), ("chosen right", right)) if inside}
    return {"total": len(known), "left": len(left), "share_left": len(left) / len(known), "low": low, "high": high, "accuracy": sides}


def safety(scored: Sequence[ScoredComparison]) -> Row | None:
    """Return recall of safe and of unsafe responses where sigmoid(score) 0.5 parts them, and accuracy by who is safe (Llama 2, table 29); or None."""
    labelled = [one for one in scored if one.comparison.safe is not None]
    if not labelled:
        return None
    pairs = [(score, is_safe) for one in labelled for score, is_safe in zip(one.scores, one.comparison.safe or (), strict=True)]
    recalls = {}
    for name, wanted in (("safe", True), ("unsafe", False)):
        found = [(score >= 0) is wanted for score, is_safe in pairs if is_safe is wanted]
        if found:
            low, high = wilson(sum(found), len(found))
            recalls[name] = {"total": len(found), "correct": sum(found), "recall": sum(found) / len(found), "low": low, "high": high}
    return {"recall": recalls, "split": tallies(labelled, _safety_of, list(SAFETY_SPLIT.values()))}


def _safety_of(one: ScoredComparison) -> str:
    safe, judged = one.comparison.safe or (), one.comparison.judged
    return SAFETY_SPLIT.get((safe[judged[0]], safe[judged[-1]]), "chosen unsafe, other safe")


def edits(scored: Sequence[ScoredComparison]) -> Row | None:
    """Return how often an edit scores above what it was made from, and above the rejected (Llama 3, section 4.2.1); None without edits."""
    edited = [(one.scores[one.comparison.edited], one) for one in scored if one.comparison.edited is not None]
    if not edited:
        return None
    shares = {}
    for name, place in (("edited over chosen", 0), ("edited over rejected", -1)):
        correct = sum(score > one.scores[one.comparison.judged[place]] for score, one in edited)
        low, high = wilson(correct, len(edited))
        shares[name] = {"total": len(edited), "correct": correct, "accuracy": correct / len(edited), "low": low, "high": high}
    return shares


def limit(scored: Sequence[ScoredComparison]) -> Row | None:
    """Return how well the hidden truth itself would do (`metadata["gold"]`, one gold reward a response); None where it is not known.

    `accuracy` counts how often the larger gold reward was the chosen one in these very judgements (equal ones: half): what a perfect model would score on
    this sample, with its interval. `expected` is the mean of max(p, 1 - p) with p = sigmoid((g_chosen - g_rejected) / temperature), the chance of the better
    one to be chosen, where the noise is stated (`metadata["gold_temperature"]`). A pair of a safety campaign with one safe response is there only because
    that was chosen: p is 1.
    """
    known = [one.comparison for one in scored if "gold" in one.comparison.metadata]
    if not known:
        return None
    gaps = [_gold_gap(comparison) for comparison in known]
    correct = sum(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0 for gap in gaps)
    low, high = wilson(correct, len(known))
    row: Row = {"total": len(known), "accuracy": correct / len(known), "low": low, "high": high}
    chances = [_chance(comparison, gap) for comparison, gap in zip(known, gaps, strict=True)]
    stated = [chance for chance in chances if chance is not None]
    return row | ({"expected": sum(stated) / len(stated), "num_expected": len(stated)} if stated else {})


def _gold_gap(comparison: Comparison) -> float:
    gold: Sequence[float] = comparison.metadata["gold"]
    return gold[comparison.judged[0]] - gold[comparison.judged[-1]]


def _chance(comparison: Comparison, gap: float) -> float | None:
    """Return the chance that the better response of such a pair is the chosen one, or None where the noise is not stated."""
    safe, metadata = comparison.safe, comparison.metadata
    if not _is_noise(metadata):
        return None
    if comparison.campaign == "safety" and safe is not None and safe[comparison.judged[0]] != safe[comparison.judged[-1]]:
        return 1.0
    return sigmoid(abs(gap) / metadata["gold_temperature"])


def _is_noise(metadata: Mapping[str, Any]) -> bool:
    return isinstance(metadata.get("gold_temperature"), int | float) and metadata["gold_temperature"] > 0
