"""The small world: which facts are taught and which are only read about, and which combinations are kept back for questions.

Everything is decided by the seed and the facts of this Python alone; both the dialogs and the questions look here, so a split is decided once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from herdling.base.seeds import stream, stream_seed
from herdling.starter.exchanges import ANSWERS, ARITHMETIC, operands, task
from herdling.starter.facts import Fact, facts
from herdling.starter.wishes import WISHES, Wish

NUM_TAUGHT = 320
NUM_READ = 100
HELD_OUT_WISHES = 5
"""One in this many combinations of fact, question and wish is kept back."""
HELD_OUT_OPERANDS = 6
"""One in this many pairs of numbers is kept back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`taught` facts stand in training dialogs, `read` ones only in the pre-training text: both are (fact, kind of question)."""

    seed: int
    taught: tuple[tuple[Fact, str], ...]
    read: tuple[tuple[Fact, str], ...]

    def wish_is_held_out(self, fact: Fact, kind: str, wish: Wish) -> bool:
        """Say whether this combination is kept for questions."""
        return stream_seed(self.seed, "wish", fact.symbol, kind, wish.name) % HELD_OUT_WISHES == 0

    def wishes(self, fact: Fact, kind: str, *, held_out: bool) -> list[Wish]:
        """Return the wishes that suit a question about a fact, from one side of the split."""
        return [wish for wish in WISHES if kind in wish.kinds and self.wish_is_held_out(fact, kind, wish) == held_out]

    def operands(self, operation: str, *, held_out: bool) -> list[tuple[int, int]]:
        """Return the pairs of numbers of one side of the split. `3 + 5` and `5 + 3` stand on the same side."""
        return [pair for pair in operands(operation) if self._is_kept_back(operation, *sorted(pair)) == held_out]

    def _is_kept_back(self, operation: str, low: int, high: int) -> bool:
        return low > 1 and stream_seed(self.seed, "operands", operation, low, high) % HELD_OUT_OPERANDS == 0


def make_world(seed: int, *, num_taught: int = NUM_TAUGHT, num_read: int = NUM_READ) -> World:
    """Choose the facts of a world. A Python with fewer facts gets a smaller world, in the same proportion."""
    candidates = [fact for fact in facts() if fact.sentence and fact.unique]
    order = stream(seed, "starter", "facts").permutation(len(candidates))
    share = min(1.0, len(candidates) / (num_taught + num_read))
    cut, end = int(num_taught * share), int((num_taught + num_read) * share)
    chosen = [candidates[index] for index in order[:end]]
    # Two functions with one docstring would give "how do I ..." two right answers.
    how_often = Counter(fact.sentence for fact in facts())
    askable = [(fact, kind) for fact in chosen for kind in ANSWERS if _is_askable(fact, kind, how_often)]
    taught = set(chosen[:cut])
    return World(seed=seed, taught=tuple(item for item in askable if item[0] in taught), read=tuple(item for item in askable if item[0] not in taught))


def _is_askable(fact: Fact, kind: str, how_often: Counter[str]) -> bool:
    if kind == "find":
        return bool(task(fact)) and how_often[fact.sentence] == 1
    return ANSWERS[kind](fact) is not None


OPERATIONS = tuple(ARITHMETIC)
