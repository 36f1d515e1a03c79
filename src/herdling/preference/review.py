"""What was judged, as reviewers see it: a round's judgements by filters, a page at a time; setting one aside, and putting it back.

Not for annotators. A reviewer sees what the annotator saw and said, pseudonyms, and what is known of hidden items; no names, no models. The log only grows:
setting aside and putting back are revisions, and a closed round takes none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from herdling.base.errors import Refused
from herdling.base.records import dialog_from_row
from herdling.preference.campaigns import config_of
from herdling.preference.database import Database
from herdling.preference.judged import Judgement, current_judgement, latest_revisions
from herdling.preference.judgements import append_revision, update_complete
from herdling.preference.leases import check_round, free_slots, task_row
from herdling.preference.rating import SafetyLabel
from herdling.preference.schema import assignments, judgements, rounds, tasks, users
from herdling.preference.tasks import LONGEST_REASON
from herdling.types import Message, Rating

State = Literal["stands", "set aside"]
PAGE_SIZE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which judgements of a round to show; what is not given keeps all."""

    annotator: str = ""
    """A pseudonym."""
    rating: Rating | None = None
    safety: SafetyLabel | None = None
    state: State | None = None
    task: int | None = None
    gold_failed: bool = False
    """Gold items where another response than the known best was chosen."""
    disagreed: bool = False
    """Where somebody else chose the other response of the same task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """One judgement as a reviewer sees it. `revision` is its last one: name it to set this aside or put it back."""

    task: int
    annotator: str
    revision: int
    turns: tuple[Message, ...]
    left: str
    right: str
    judgement: Judgement
    seconds: float
    at: float
    kind: str
    """`prompt`, or a hidden item: `gold`, `repeat`."""
    gold_right: bool | None
    """Of a gold item: whether the known best response was chosen."""
    same: int
    """How many others chose the same response of this task, and"""
    other: int
    """how many the other one. Judgements that were set aside do not count."""
    reason: str | None
    """Why it is set aside; None where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPage:
    """A page of a round's judgements: the newest tasks first, those of one task together."""

    round: int
    is_open: bool
    total: int
    """How many judgements the filters keep, over all pages."""
    judgements: list[Reviewed]
    annotators: list[str]
    """The pseudonyms of all who judged in this round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Names a judgement as a reviewer saw it: what was revised since is not touched."""

    campaign: str
    task: int
    annotator: str
    revision: int


class Reviews:
    """Looking through judgements and setting them aside. Not for annotators."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def page(self, campaign: str, filters: Filters, *, round_number: int | None = None, page: int = 1) -> ReviewPage:
        """Return a page of the open round, or of the given one. Raises `Refused` ("unknown campaign", "unknown round")."""
        with self._database.read() as tx:
            config_of(tx, campaign)
            which = rounds.c.closed.is_(None) if round_number is None else rounds.c.number == round_number
            row = tx.execute(sa.select(rounds).where(rounds.c.campaign == campaign, which)).one_or_none()
            if row is None:
                raise Refused("unknown round", f"campaign {campaign} has no round {round_number}")
            counted = _counted(row.id)
            kept = _kept(counted, filters)
            total = tx.execute(sa.select(sa.func.count()).select_from(kept.subquery())).scalar_one()
            ordered = kept.order_by(counted.c.task_id.desc(), counted.c.user_id).limit(PAGE_SIZE).offset(PAGE_SIZE * (page - 1))
            judged = sa.select(judgements.c.user_id).where(judgements.c.round_id == row.id)
            names = tx.execute(sa.select(users.c.pseudonym).where(users.c.id.in_(judged)).order_by(users.c.pseudonym)).scalars()
            shown = [_reviewed(each) for each in tx.execute(ordered)]
            return ReviewPage(round=row.number, is_open=row.closed is None, total=total, judgements=shown, annotators=list(names))

    def set_aside(self, seen: Seen, reason: str, *, by: int, key: str) -> None:
        """Set a judgement aside (a revision): it stays in the log, is left out of the round and counted there by its reason; its slot is free for others.

        Raises:
            Refused: "reason missing", "unknown judgement", "judgement changed", "not judged", "round closed".
        """
        now, reason = self._clock(), reason.strip()[:LONGEST_REASON]
        if not reason:
            raise Refused("reason missing", "say in a few words why this judgement is set aside")

        def work(tx: sa.Connection) -> None:
            row = _task(tx, seen)
            config = config_of(tx, row.campaign, lock="deal")
            last = _last(tx, row, seen, "judged", "not judged")
            kept = {"round_id": last.round_id, "side_seed": last.side_seed, "guidelines_version": last.guidelines_version}
            append_revision(tx, row, last.user_id, "set aside", now, last, reason=reason, by=by, **kept)
            tx.execute(sa.update(assignments).where(_theirs(last)).values(state="skipped", slot=None))
            update_complete(tx, row, config)

        self._database.once(by, key, ["set aside", seen.task, seen.annotator, seen.revision, reason], now, work)

    def put_back(self, seen: Seen, *, by: int, key: str) -> None:
        """Let a judgement stand again that was set aside (a revision that repeats it). If others took its slot meanwhile, the task has one judgement more.

        Raises:
            Refused: "unknown judgement", "judgement changed", "not set aside", "round closed".
        """
        now = self._clock()

        def work(tx: sa.Connection) -> None:
            row = _task(tx, seen)
            config = config_of(tx, row.campaign, lock="deal")
            last = _last(tx, row, seen, "set aside", "not set aside")
            theirs = sa.and_(judgements.c.task_id == row.id, judgements.c.user_id == last.user_id, judgements.c.kind == "judged")
            said = tx.execute(sa.select(judgements).where(theirs).order_by(judgements.c.revision.desc()).limit(1)).one()
            repeated = {name: getattr(said, name) for name in ("round_id", "side_seed", "guidelines_version", "judgement", "seconds")}
            append_revision(tx, row, last.user_id, "judged", now, last, by=by, event="put back", **repeated)
            slot = next(iter(free_slots(tx, row, config)), None)
            tx.execute(sa.update(assignments).where(_theirs(last)).values(state="judged", slot=slot))
            update_complete(tx, row, config)

        self._database.once(by, key, ["put back", seen.task, seen.annotator, seen.revision], now, work)


def _task(tx: sa.Connection, seen: Seen) -> sa.Row[Any]:
    row = task_row(tx, seen.task)
    if row.campaign != seen.campaign:
        raise Refused("unknown judgement", f"campaign {seen.campaign} has no task {seen.task}")
    return row


def _last(tx: sa.Connection, row: sa.Row[Any], seen: Seen, kind: str, reason: str) -> sa.Row[Any]:
    """Return the last revision of what is to be changed, if it is the one that was seen, of this kind, and of an open round."""
    user = tx.execute(sa.select(users.c.id).where(users.c.pseudonym == seen.annotator)).scalar_one_or_none()
    last = None if user is None else current_judgement(tx, row.id, user)
    if last is None:
        raise Refused("unknown judgement", f"{seen.annotator} did not judge task {row.id}")
    if last.round_id != check_round(tx, row):
        raise Refused("round closed", f"the judgement of task {row.id} belongs to a round that is closed")
    if last.kind != kind:
        raise Refused(reason, f"task {row.id}: the last that is known of this judgement is {last.kind!r}")
    if last.revision != seen.revision:
        raise Refused("judgement changed", f"task {row.id} was judged anew meanwhile; look at it again")
    return last


def _theirs(last: sa.Row[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(assignments.c.task_id == last.task_id, assignments.c.user_id == last.user_id)


def _counted(round_id: int) -> sa.Subquery:
    """Return the query for a round's judgements that stand or are set aside: what was said, the last revision, and how those who judged a task chose.

    `chosen` is the task's response, 0 or 1, whatever side it was shown on; `votes` counts the judgements of the task that stand, `ones` those for response 1.
    """
    here = judgements.c.round_id == round_id
    last = latest_revisions(here)
    # What the annotator said, not what repeats it after a review: that has another time.
    said = latest_revisions(here, judgements.c.kind == "judged", judgements.c.by_user == judgements.c.user_id)
    chosen = sa.case((said.c.judgement["side"].as_string() == "left", said.c.left_response), else_=1 - said.c.left_response)
    columns = (said.c.task_id, said.c.user_id, said.c.judgement, said.c.left_response, said.c.seconds, said.c.at, chosen.label("chosen"))
    both = sa.select(*columns, last.c.revision, last.c.kind.label("state"), last.c.reason)
    both = both.join(last, sa.and_(last.c.task_id == said.c.task_id, last.c.user_id == said.c.user_id)).where(last.c.kind.in_(("judged", "set aside")))
    found = both.subquery()
    stands = found.c.state == "judged"
    votes, ones = (sa.func.sum(sa.case((counts, 1), else_=0)).over(partition_by=found.c.task_id) for counts in (stands, sa.and_(stands, found.c.chosen == 1)))
    return sa.select(found, votes.label("votes"), ones.label("ones")).subquery()


def _kept(counted: sa.Subquery, filters: Filters) -> sa.Select[Any]:
    """Return the query for the judgements that the filters keep, each beside its task and annotator."""
    best = tasks.c.answer["chosen"].as_integer()
    asked = sa.select(counted, tasks.c.dialog, tasks.c.responses, tasks.c.kind, best.label("best"), users.c.pseudonym)
    asked = asked.join(tasks, tasks.c.id == counted.c.task_id).join(users, users.c.id == counted.c.user_id)
    if filters.annotator:
        asked = asked.where(users.c.pseudonym == filters.annotator)
    if filters.rating is not None:
        asked = asked.where(counted.c.judgement["rating"].as_string() == filters.rating)
    if filters.safety is not None:
        asked = asked.where(counted.c.judgement["safety"].as_string() == filters.safety)
    if filters.state is not None:
        asked = asked.where(counted.c.state == {"stands": "judged", "set aside": "set aside"}[filters.state])
    if filters.task is not None:
        asked = asked.where(counted.c.task_id == filters.task)
    if filters.gold_failed:
        asked = asked.where(tasks.c.kind == "gold", best != counted.c.chosen)
    if filters.disagreed:
        asked = asked.where(sa.case((counted.c.chosen == 1, counted.c.votes - counted.c.ones), else_=counted.c.ones) > 0)
    return asked


def _reviewed(row: sa.Row[Any]) -> Reviewed:
    left, right = (row.responses[index]["message"]["content"] for index in (row.left_response, 1 - row.left_response))
    for_chosen = row.ones if row.chosen == 1 else row.votes - row.ones
    return Reviewed(
        task=row.task_id,
        annotator=row.pseudonym,
        revision=row.revision,
        turns=dialog_from_row(row.dialog, f"task {row.task_id}").messages,
        left=left,
        right=right,
        judgement=Judgement(**row.judgement),
        seconds=row.seconds,
        at=row.at,
        kind=row.kind,
        gold_right=row.best == row.chosen if row.kind == "gold" else None,
        same=for_chosen - (row.state == "judged"),
        other=row.votes - for_chosen,
        reason=row.reason if row.state == "set aside" else None,
    )
