"""Is an answer right? Three rules, each stated in one line; all look at the text after whitespace is made plain, and at letter case (wishes may be about it).

exact         the answer is one of the accepted texts, nothing more
starts_with   the answer begins with one of them
contains      one of them stands in the answer
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from herdling.base.errors import DataError, did_you_mean
from herdling.types import Question

RULES: dict[str, Callable[[str, str], bool]] = {
    "exact": lambda answer, accepted: answer == accepted,
    "starts_with": lambda answer, accepted: answer.startswith(accepted),
    "contains": lambda answer, accepted: accepted in answer,
}


def normalise(text: str) -> str:
    """Return a text in Unicode's composed form, with every run of whitespace as one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_correct(question: Question, answer: str) -> bool:
    """Grade one answer by the question's own rule. Raises `DataError` for a rule that does not exist or a question without accepted answers."""
    if question.rule not in RULES:
        raise DataError(f"question {question.id}: unknown rule {question.rule!r}{did_you_mean(question.rule, RULES)}; there are: {', '.join(RULES)}")
    accepted = [normalise(text) for text in question.accepted]
    if not all(accepted) or not accepted:
        raise DataError(f"question {question.id}: has no accepted answer, or an empty one")
    return any(RULES[question.rule](normalise(answer), text) for text in accepted)
