"""One stored judgement as a `Comparison`: what rounds freeze, and what a submission is checked as before it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from herdling.base.comparison_records import completion_from_row
from herdling.base.records import dialog_from_row
from herdling.preference.rating import SafetyLabel, Side, flags_of_label, key_of_choice
from herdling.preference.schema import judgements
from herdling.types import Campaign, Comparison, Completion, Message, Rating

_MINE = sa.and_(judgements.c.task_id == sa.bindparam("task"), judgements.c.user_id == sa.bindparam("user"))
_LAST = sa.select(judgements).where(_MINE).order_by(judgements.c.revision.desc()).limit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an annotator says of two responses as shown."""

    side: Side
    rating: Rating
    safety: SafetyLabel | None = None
    """Required in a safety campaign, refused in another."""
    edit: str | None = None
    """The chosen response, made better (style llama3 only)."""
    edit_safe: bool | None = None
    """Whether the edit is safe: required with an edit in a safety campaign."""


def current_judgement(tx: sa.Connection, task: int, user: int) -> sa.Row[Any] | None:
    """Return the last revision of what an annotator said of a task, or None."""
    return tx.execute(_LAST, {"task": task, "user": user}).one_or_none()


def latest_revisions(*where: sa.ColumnElement[bool]) -> sa.Subquery:
    """Return the query for the last revision of each (task, annotator) among the rows of the log that `where` keeps."""
    number = sa.func.row_number().over(partition_by=(judgements.c.task_id, judgements.c.user_id), order_by=judgements.c.revision.desc())
    ranked = sa.select(judgements, number.label("place")).where(*where).subquery()
    return sa.select(ranked).where(ranked.c.place == 1).subquery()


def place_of(row: sa.Row[Any]) -> int:
    """Return where a stored judgement stands on the line from the task's first response (1) to its second (8), whatever side each was shown on."""
    key = key_of_choice(row.judgement["side"], row.judgement["rating"])
    return key if row.left_response == 0 else 9 - key


def comparison_of(
    task: sa.Row[Any],
    judgement: Judgement,
    *,
    left: int,
    campaign: Campaign,
    annotator: str = "",
    round_name: str = "",
    seconds: float | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Comparison:
    """Return a judgement of a task as a comparison: the responses as shown, the left one first, an edit last."""
    where = f"task {task.id}"
    shown = [completion_from_row(task.responses[index], where) for index in (left, 1 - left)]
    chosen = 0 if judgement.side == "left" else 1
    ranking: tuple[int, ...] = (chosen, 1 - chosen)
    safe: tuple[bool, ...] | None = None
    if judgement.safety is not None:
        safe = flags_of_label(judgement.safety, chosen)
    if judgement.edit is not None:
        shown.append(Completion(message=Message(role="assistant", content=judgement.edit), stop_reason="end_of_turn"))
        ranking = (2, *ranking)
        if safe is not None and judgement.edit_safe is not None:
            safe = (*safe, judgement.edit_safe)
    return Comparison(
        id=f"{task.campaign}-{task.id}-{annotator}",
        dialog=dialog_from_row(task.dialog, where),
        responses=tuple(shown),
        ranking=ranking,
        rating=judgement.rating,
        safe=safe,
        edited=None if judgement.edit is None else 2,
        campaign=campaign,
        annotator=annotator,
        round=round_name,
        seconds=seconds,
        metadata=metadata or {},
    )
