"""Graded answers in other projects' rows: HelpSteer's preferences from -3 to 3, HelpSteer2's ratings of single answers, and best-of-K with rewards.

Reads and writes as `pair_forms` does. A grade of 0, or two equal rewards, is no preference: nobody said which answer is better, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, groupby
from math import isfinite
from typing import Any

from herdling.data.dialogs import RowFault
from herdling.data.pair_forms import CANNOT, make_comparison, read_answer, read_messages, write_message
from herdling.types import Comparison, Message, Rating

LEVELS: dict[int, Rating] = {1: "slightly", 2: "better", 3: "significantly"}
"""HelpSteer's grade, whatever its sign -> our level: "slightly better", "better", "much better". Negative: the first answer is better."""
GRADES = {level: grade for grade, level in LEVELS.items()}
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_MARK = "<extra_id_1>"
NO_PREFERENCE = "no preference"

Row = Mapping[str, Any]


def read_helpsteer3(row: Row, where: str) -> Comparison:
    """HelpSteer3: `context`, `response1`, `response2`, `overall_preference` and what each annotator said."""
    known = {name: row.get(name) for name in ("domain", "language", "individual_preference")}
    return _graded(row, read_messages(row["context"]), [row["response1"], row["response2"]], row["overall_preference"], known)


def write_helpsteer3(comparison: Comparison) -> dict[str, Any]:
    """HelpSteer3. The lowest of our four levels has no grade: 0 would forget which answer was chosen."""
    first, second = sorted((comparison.judged[0], comparison.judged[-1]))
    answers = [comparison.responses[index].message for index in (first, second)]
    if comparison.rating not in GRADES:
        raise RowFault(CANNOT, f"rating {comparison.rating}: grades are 1 slightly, 2 better, 3 significantly better; 0 would forget which answer was chosen")
    if comparison.dialog.tools or any(answer.tool_calls for answer in answers):
        raise RowFault(CANNOT, "HelpSteer's answers are texts, without tools")
    known = {name: comparison.metadata[name] for name in ("domain", "language", "individual_preference") if name in comparison.metadata}
    grade = GRADES[comparison.rating] * (-1 if comparison.judged[0] == first else 1)
    context = [write_message(message, arguments_as_text=True) for message in comparison.dialog.messages]
    return {**known, "context": context, "response1": answers[0].content, "response2": answers[1].content, "overall_preference": grade}


def read_helpsteer2(row: Row, where: str) -> Comparison:
    """HelpSteer2-Preference: `prompt`, `response_1`, `response_2` and `preference_strength`."""
    if isinstance(row["prompt"], str) and _MARK in row["prompt"]:
        raise RowFault("marks of turns in the prompt", f"{_MARK} parts several turns; give them as messages")
    known = {name: row.get(name) for name in ("preference_statement", "preference_elaboration")}
    return _graded(row, read_messages(row["prompt"]), [row["response_1"], row["response_2"]], row["preference_strength"], known)


def _graded(row: Row, prompt: list[Message], answers: list[Any], grade: Any, known: dict[str, Any]) -> Comparison:
    if isinstance(grade, bool) or not isinstance(grade, int | float) or grade != grade // 1 or abs(grade) > 3:
        raise RowFault("rating outside the scale", f"found {grade!r}, accepted: whole numbers from -3 to 3")
    if grade == 0:
        raise RowFault(NO_PREFERENCE, "grade 0: about the same")
    ranking = [0, 1] if grade < 0 else [1, 0]
    return make_comparison(row, prompt, [read_answer(answer) for answer in answers], ranking, rating=LEVELS[abs(int(grade))], **known)


def is_single(row: Row) -> bool:
    """Say whether a row is one graded answer of HelpSteer or HelpSteer2."""
    return "prompt" in row and "response" in row and "helpfulness" in row


def join_singles(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Join graded answers that follow each other and have one prompt into one row of best-of-K, by helpfulness; other rows go through."""
    unlike = count()
    for _, group in groupby(rows, key=lambda item: str(item[1]["prompt"]) if is_single(item[1]) else next(unlike)):
        (where, first), *others = group
        if not is_single(first):
            yield where, first
            continue
        answers = [first, *(row for _, row in others)]
        grades = [{name: row.get(name) for name in ATTRIBUTES} for row in answers]
        extra = {name: first[name] for name in first if name not in ("response", *ATTRIBUTES)}
        yield where, {**extra, "responses": [row["response"] for row in answers], "rewards": [row["helpfulness"] for row in answers], "grades": grades}


def read_best_of_k(row: Row, where: str) -> Comparison:
    """Best-of-K: a prompt, `responses` and their `rewards`; ranked by reward."""
    responses, rewards = row["responses"], row["rewards"]
    if not isinstance(responses, list) or not isinstance(rewards, list) or len(responses) != len(rewards):
        raise RowFault("responses and rewards do not match", "accepted: two lists of one length")
    if any(isinstance(reward, bool) or not isinstance(reward, int | float) or not isfinite(reward) for reward in rewards):
        raise RowFault("reward is no number", f"found {str(rewards)[:80]}")
    if len(set(rewards)) < len(rewards):
        raise RowFault(NO_PREFERENCE, f"equal rewards: {str(rewards)[:80]}")
    ranking = sorted(range(len(rewards)), key=lambda index: -rewards[index])
    answers = [read_answer(response) for response in responses]
    return make_comparison(row, read_messages(row["prompt"]), answers, ranking, sides_known=False, rewards=rewards, grades=row.get("grades"))


def write_best_of_k(comparison: Comparison) -> dict[str, Any]:
    """Best-of-K: all answers as they were shown, with the rewards that rank them."""
    rewards = comparison.metadata.get("rewards")
    if rewards is None or [*sorted(range(len(rewards)), key=lambda index: -rewards[index])] != list(comparison.ranking):
        raise RowFault(CANNOT, "no rewards are known that rank the responses; best-of-K rows hold numbers, not preferences")
    if comparison.dialog.tools:
        raise RowFault(CANNOT, "best-of-K rows have no tools")
    prompt = [write_message(message, arguments_as_text=False) for message in comparison.dialog.messages]
    responses = [write_message(response.message, arguments_as_text=False) for response in comparison.responses]
    grades = comparison.metadata.get("grades")
    return {"prompt": prompt, "responses": responses, "rewards": list(rewards)} | ({} if grades is None else {"grades": grades})
