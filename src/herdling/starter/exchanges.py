"""What is said in one turn: a question and its one right answer, made from a fact, from two numbers, from a wish or from small talk.

The answers are computed, so each can be checked by program. No chance here: `dialogs.py` chooses which exchanges stand where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from herdling.starter.facts import Fact
from herdling.starter.wishes import Wish
from herdling.starter.wordings import ADD, DOES, FIND, MULTIPLY, SUBTRACT, TAKES, WHERE, Wordings

_VERBS = (
    "Apply Build Calculate Change Check Clear Compare Compile Compress Compute Convert Copy Create Decode Decompress Delete Determine Disable Display Encode"
    " Escape Extract Find Flush Format Generate Get Guess Indicate Insert Iterate Join List Load Log Make Merge Move Open Parse Pop Print Push Put Quote Raise"
    " Read Recursively Register Reload Remove Replace Return Run Search Send Serialize Set Show Shuffle Sort Split Start Stop Test Transform Turn Unpack Update"
    " Wait Walk Wrap Write"
)
VERBS = frozenset(_VERBS.split())
"""First words of a docstring that make it a task: `Remove any ...` -> `How do I remove any ...?`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One question, its right answer, and what kind it is. `also_right` are further answers that a checker accepts."""

    kind: str
    question: str
    answer: str
    also_right: tuple[str, ...] = ()


def does(fact: Fact) -> str | None:
    """Answer what it does: the first sentence of its docstring."""
    return fact.sentence or None


def where(fact: Fact) -> str | None:
    """Answer which module has it, when only one has."""
    return f"It is in {fact.module}." if fact.unique else None


def takes(fact: Fact) -> str | None:
    """Answer which parameters it takes, when they are few."""
    return None if fact.parameters is None else f"It takes {spoken(fact.parameters)}."


def find(fact: Fact) -> str | None:
    """Answer what to use for a task, when the docstring names one."""
    return f"Use {fact.symbol}." if task(fact) else None


def spoken(names: Sequence[str]) -> str:
    """Return names as people say them: `a`, `a and b`, `a, b and c`."""
    if not names:
        return "no parameters"
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def task(fact: Fact) -> str:
    """Return what a function does as a verb phrase: `remove any common leading whitespace`; empty when its docstring is none."""
    verb, _, rest = fact.sentence.partition(" ")
    return f"{verb.lower()} {rest.removesuffix('.')}" if fact.kind == "function" and verb in VERBS else ""


ANSWERS: dict[str, Callable[[Fact], str | None]] = {"does": does, "where": where, "takes": takes, "find": find}
WORDINGS: dict[str, Wordings] = {"does": DOES, "where": WHERE, "takes": TAKES, "find": FIND}


def mention(fact: Fact, kind: str) -> str:
    """Return how a question of this kind names the fact: in full, or without the module that it asks for."""
    return fact.name if kind == "where" else fact.symbol


def ask(fact: Fact, kind: str, wording: str, wish: Wish | None = None, form: str = "{q}") -> Exchange:
    """Return a question about a fact, in this wording, perhaps with a wish for the form of the answer. The fact must have an answer of this kind."""
    answer = ANSWERS[kind](fact)
    assert answer is not None
    question = wording.format(x=fact.symbol, n=mention(fact, kind), task=task(fact))
    if wish is None:
        return Exchange(kind=kind, question=question, answer=answer)
    # After a comma or colon a sentence goes on in lower case, unless it starts with a name of the library.
    inner = question if form.startswith("{q}") or question.startswith((fact.name, fact.symbol)) else question[0].lower() + question[1:]
    return Exchange(kind=wish.name, question=form.format(q=inner), answer=wish.obey(answer))


ARITHMETIC: dict[str, tuple[Wordings, Callable[[int, int], int], int, int]] = {
    "add": (ADD, lambda a, b: a + b, 10, 10),
    "subtract": (SUBTRACT, lambda a, b: a - b, 20, 10),
    "multiply": (MULTIPLY, lambda a, b: a * b, 10, 10),
}
"""Operation: wordings, the true answer, the largest first and second number."""


def operands(operation: str) -> list[tuple[int, int]]:
    """Return all pairs of numbers that an operation is asked with; subtraction never goes below zero."""
    _, _, largest_a, largest_b = ARITHMETIC[operation]
    return [(a, b) for a in range(largest_a + 1) for b in range(largest_b + 1) if operation != "subtract" or b <= a]


def calculate(operation: str, a: int, b: int, wording: str) -> Exchange:
    """Return a small calculation."""
    return Exchange(kind=operation, question=wording.format(a=a, b=b), answer=str(ARITHMETIC[operation][1](a, b)))
