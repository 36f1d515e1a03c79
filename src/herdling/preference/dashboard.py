"""The numbers of a campaign for reviewers and admins: who agrees with whom, with gold and with themselves, how fast, how fair to left and right."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa

from herdling.preference.agreement import Observation, drift, summary, with_others
from herdling.preference.campaigns import config_of
from herdling.preference.database import Database
from herdling.preference.judged import latest_revisions, place_of
from herdling.preference.schema import assignments, events, judgements, prompts, rounds, tasks, users


class Dashboard:
    """Reads the database; changes nothing. Not for annotators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def numbers(self, campaign: str) -> dict[str, Any]:
        """Return the dashboard as plain data.

        `counts`; `campaign`, `rounds` (by number) and `annotators` (`user`, `name`, `pseudonym`, `with_others`, `drift`, `rounds`) with what
        `agreement.summary` says of each; `drift` of the campaign; `skipped` (reason -> count). Raises `Refused` ("unknown campaign").
        """
        with self._database.read() as tx:
            config_of(tx, campaign)
            seen = _observations(tx, campaign)
            people = {row.pseudonym: row for row in tx.execute(sa.select(users))}
            counts, skipped = _counts(tx, campaign), _skipped(tx, campaign)
        annotators = []
        for name in sorted({each.annotator for each in seen}):
            own = [each for each in seen if each.annotator == name]
            who = {"user": people[name].id, "name": people[name].name, "pseudonym": name, "with_others": with_others(seen, name)}
            annotators.append({**who, **summary(own), "drift": drift(own), "rounds": _by_round(own)})
        return {
            "counts": counts,
            "campaign": summary(seen),
            "rounds": _by_round(seen),
            "drift": drift(seen),
            "annotators": annotators,
            "skipped": skipped,
        }


def _by_round(seen: list[Observation]) -> dict[int, dict[str, Any]]:
    return {number: summary([each for each in seen if each.round == number]) for number in sorted({each.round for each in seen})}


def _observations(tx: sa.Connection, campaign: str) -> list[Observation]:
    """Return all judgements of a campaign that stand, the oldest first."""
    latest = latest_revisions()
    asked = sa.select(latest, tasks.c.kind.label("task_kind"), tasks.c.answer, tasks.c.repeat_of, users.c.pseudonym, rounds.c.number)
    asked = asked.join(tasks, tasks.c.id == latest.c.task_id).join(users, users.c.id == latest.c.user_id).join(rounds, rounds.c.id == latest.c.round_id)
    rows = tx.execute(asked.where(tasks.c.campaign == campaign, latest.c.kind == "judged").order_by(latest.c.id)).all()
    places = {(row.task_id, row.user_id): place_of(row) for row in rows}
    found = []
    for row in rows:
        before = places.get((row.repeat_of, row.user_id)) if row.repeat_of else None
        if row.repeat_of and before is None:
            continue  # the first judgement was taken back or set aside: there is nothing to repeat
        place = place_of(row)
        found.append(
            Observation(
                task=row.task_id,
                annotator=row.pseudonym,
                round=row.number,
                side=row.judgement["side"],
                rating=row.judgement["rating"],
                place=place,
                seconds=row.seconds,
                gold=(place <= 4) == (row.answer["chosen"] == 0) if row.task_kind == "gold" else None,
                before=before,
            )
        )
    return found


def _counts(tx: sa.Connection, campaign: str) -> dict[str, int]:
    def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        return tx.execute(sa.select(sa.func.count()).select_from(table).where(table.c.campaign == campaign, *where)).scalar_one()

    states = {state: count(assignments, assignments.c.state == state) for state in ("held", "judged", "skipped")}
    latest = latest_revisions(judgements.c.task_id.in_(sa.select(tasks.c.id).where(tasks.c.campaign == campaign)))
    aside = tx.execute(sa.select(sa.func.count()).select_from(latest).where(latest.c.kind == "set aside")).scalar_one()
    waiting = {"prompts_waiting": count(prompts, prompts.c.task_id.is_(None)), "gold_items": count(tasks, tasks.c.kind == "gold")}
    undone = count(events, events.c.kind == "undone")
    return {
        **states,
        "undone": undone,
        "set_aside": aside,
        **waiting,
        "tasks": count(tasks, tasks.c.kind == "prompt"),
        "repeats": count(tasks, tasks.c.kind == "repeat"),
    }


def _skipped(tx: sa.Connection, campaign: str) -> dict[str, int]:
    asked = sa.select(events.c.facts).where(events.c.campaign == campaign, events.c.kind == "skipped")
    return dict(Counter(facts["reason"] for facts in tx.execute(asked).scalars()).most_common())
