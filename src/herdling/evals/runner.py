"""Ask a model all questions and count the right answers: one row an answer, one score a group.

A model is a function from dialogs to answers, so the runner knows nothing of engines, chat formats or servers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from herdling.base.intervals import wilson
from herdling.evals.grading import is_correct
from herdling.types import Dialog, Question

Answerer = Callable[[Sequence[Dialog]], Sequence[str]]
"""Answers dialogs that end with a user message, in their order."""
Row = dict[str, Any]


def first_of_each_group(questions: Iterable[Question], limit: int | None) -> list[Question]:
    """Return at most `limit` questions of each group, in order; all when there is no limit."""
    taken: Counter[str] = Counter()
    chosen = []
    for question in questions:
        taken[question.group] += 1
        if limit is None or taken[question.group] <= limit:
            chosen.append(question)
    return chosen


def ask(label: str, questions: Sequence[Question], answer: Answerer, *, batch_size: int = 64) -> Iterator[Row]:
    """Yield one row a question: who was asked what, what it said, whether that is right. Asked in batches, in the order of `questions`."""
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        for question, said in zip(batch, answer([question.dialog for question in batch]), strict=True):
            yield {
                "model": label,
                "id": question.id,
                "group": question.group,
                "question": question.dialog.messages[-1].content,
                "answer": said,
                "accepted": list(question.accepted),
                "rule": question.rule,
                "correct": is_correct(question, said),
            }


def tally(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Return group -> correct, total, accuracy and its 95 % interval (low, high), groups in the order they came."""
    total: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for row in rows:
        total[row["group"]] += 1
        correct[row["group"]] += row["correct"]
    scores = {}
    for group, count in total.items():
        low, high = wilson(correct[group], count)
        scores[group] = {"correct": correct[group], "total": count, "accuracy": correct[group] / count, "low": low, "high": high}
    return scores
