"""Wishes about the form of an answer ("in upper case", "as a list"): each is a sentence to ask it with and a function that obeys it.

A wish never changes what is said, so the right answer to a fact with a wish is computed from the right answer without. Combinations of fact and wish are held
out from training, so a right answer there was composed and not remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """One wish: `forms` hold the question at `{q}`; `obey` turns the plain answer into the wished one; `kinds` are the questions it suits."""

    name: str
    forms: tuple[str, ...]
    obey: Callable[[str], str]
    kinds: frozenset[str]


SHORT = frozenset({"where", "takes"})
ANY = SHORT | {"does", "find"}


def after(wish: str) -> tuple[str, ...]:
    """Return the forms of a wish that can stand before or after the question: `in quotes`."""
    return (f"{{q}} Answer {wish}.", f"{{q}} Please answer {wish}.", f"Answer {wish}: {{q}}", f"{wish[0].upper()}{wish[1:]}, please: {{q}}")


WISHES = (
    Wish("upper", after("in upper case"), str.upper, frozenset({"where"})),
    Wish("lower", after("in lower case"), str.lower, ANY),
    Wish("quotes", after("in quotes"), lambda answer: f'"{answer}"', ANY),
    Wish("brackets", after("in brackets"), lambda answer: f"[{answer}]", ANY),
    Wish("list", after("as a list"), lambda answer: f"- {answer}", ANY),
    Wish("exclamation", after("with an exclamation mark"), lambda answer: answer.removesuffix(".") + "!", ANY),
    Wish("no_period", after("without a period"), lambda answer: answer.removesuffix("."), ANY),
    Wish("start", after("starting with the word sure"), lambda answer: f"Sure: {answer}", ANY),
    Wish("end", after("ending with the word done"), lambda answer: f"{answer} Done.", ANY),
    Wish("twice", after("twice"), lambda answer: f"{answer} {answer}", SHORT),
    Wish("word", after("in one word"), lambda answer: answer.removesuffix(".").rsplit(" ", 1)[-1], frozenset({"where"})),
)
