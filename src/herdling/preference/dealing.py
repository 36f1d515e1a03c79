"""The choice of the next task: a walk down the order that `tasks.py` states, first match wins. Runs under the campaign's lock: one dealer at a time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from herdling.base.errors import Refused
from herdling.base.seeds import stream
from herdling.preference.campaign import CampaignConfig, draw_variants
from herdling.preference.judged import current_judgement
from herdling.preference.leases import hold, open_round, take, task_row
from herdling.preference.schema import assignments, judgements, prompts, tasks

REPEAT_AFTER = 5
"""How many judgements lie between an item and its repeat, at least: less, and people remember what they said."""


# Built once: they run with every task that is dealt, and building a statement costs as much as running it.
_CAMPAIGN: sa.BindParameter[Any] = sa.bindparam("campaign")
_USER: sa.BindParameter[Any] = sa.bindparam("user")
_ROUND: sa.BindParameter[Any] = sa.bindparam("round")
_TASK: sa.BindParameter[Any] = sa.bindparam("task")
_HAD = sa.select(assignments.c.task_id).where(assignments.c.task_id == tasks.c.id, assignments.c.user_id == _USER)
_NEVER_HAD = sa.select(tasks.c.id).where(~_HAD.exists())
_MINE = sa.and_(assignments.c.campaign == _CAMPAIGN, assignments.c.user_id == _USER)
_OF_ROUND = sa.or_(tasks.c.round_id == _ROUND, tasks.c.round_id.is_(None))
_OWN = sa.select(tasks.c.id, assignments.c.state).join(assignments, assignments.c.task_id == tasks.c.id).where(_MINE, _OF_ROUND)
_OWN = _OWN.where(assignments.c.state.in_(("held", "expired"))).order_by(
    assignments.c.state.desc(), sa.case((assignments.c.state == "held", assignments.c.began), else_=assignments.c.expires).desc(), tasks.c.id.desc()
)
_GOING_ON = _NEVER_HAD.where(tasks.c.owner == _USER, tasks.c.kind == "prompt", tasks.c.round_id == _ROUND).order_by(tasks.c.id)
_NUM_HAD = sa.select(sa.func.count()).select_from(assignments).where(_MINE)
_GOLD = _NEVER_HAD.where(tasks.c.campaign == _CAMPAIGN, tasks.c.kind == "gold").order_by(tasks.c.id)
_TAKEN = sa.select(sa.func.count()).where(assignments.c.task_id == tasks.c.id, assignments.c.slot.is_not(None)).correlate(tasks).scalar_subquery()
_READY = sa.or_(_TAKEN == 0, sa.and_(tasks.c.responses.is_not(None), sa.bindparam("overlap") > _TAKEN))
_WITH_SLOT = _NEVER_HAD.where(tasks.c.round_id == _ROUND, tasks.c.complete.is_(False), tasks.c.kind == "prompt", tasks.c.owner.is_(None), _READY)
_WITH_SLOT = _WITH_SLOT.order_by(tasks.c.id).limit(1)
_PROMPT = sa.select(prompts).where(prompts.c.campaign == _CAMPAIGN, prompts.c.task_id.is_(None)).order_by(prompts.c.id).limit(1)
_GIVEN = sa.update(prompts).where(prompts.c.id == sa.bindparam("prompt")).values(task_id=_TASK)
_DRAWN = sa.update(tasks).where(tasks.c.id == _TASK).values(draws=sa.bindparam("drawn"))


def deal(tx: sa.Connection, config: CampaignConfig, user: int, now: float) -> int | None:
    """Lease the next task to an annotator and return its number; None when nothing waits."""
    current = open_round(tx, config.name)
    where = {"campaign": config.name, "user": user, "round": current}
    own = tx.execute(_OWN, where).all()  # what is held comes first, then what was lost
    if own and own[0].state == "held":
        return int(own[0].id)
    waiting = [*(row.id for row in own), *tx.execute(_GOING_ON, where).scalars()]
    for candidates in (lambda: waiting, lambda: _hidden(tx, config, user, current, now), lambda: _with_slot(tx, config, where)):
        for candidate in candidates():
            if take(tx, task_row(tx, candidate), user, config, now):
                return candidate
    return _from_queue(tx, config, user, current, now)


def _hidden(tx: sa.Connection, config: CampaignConfig, user: int, current: int, now: float) -> list[int]:
    """Return a hidden item if it is time for one: a gold item that this annotator never had, or a repeat of an earlier judgement."""
    mine = {"campaign": config.name, "user": user}
    chance = stream(config.seed, "hidden", user, tx.execute(_NUM_HAD, mine).scalar_one())
    place = chance.random()
    if place < config.gold_share:
        items = tx.execute(_GOLD, mine).scalars().all()
        return [items[int(chance.integers(len(items)))]] if items else []
    if place < config.gold_share + config.repeat_share:
        items = _repeatable(tx, user, current)
        if items:
            row = task_row(tx, items[int(chance.integers(len(items)))])
            copied = {name: getattr(row, name) for name in ("dialog", "draws", "responses")}
            return [new_task(tx, config, now, kind="repeat", source=row.source, round_id=current, repeat_of=row.id, owner=user, **copied)]
    return []


def _repeatable(tx: sa.Connection, user: int, current: int) -> list[int]:
    """Return what this annotator judged in this round, a while ago, and was not asked again."""
    last = sa.func.max(judgements.c.id)
    judged = sa.and_(judgements.c.user_id == user, judgements.c.round_id == current, assignments.c.state == "judged", assignments.c.user_id == user)
    asked = sa.select(tasks.c.id, tasks.c.kind).join(judgements, judgements.c.task_id == tasks.c.id).join(assignments, assignments.c.task_id == tasks.c.id)
    rows = tx.execute(asked.where(judged).group_by(tasks.c.id, tasks.c.kind).order_by(last)).all()
    again = set(tx.execute(sa.select(tasks.c.repeat_of).where(tasks.c.owner == user, tasks.c.repeat_of.is_not(None))).scalars())
    return [row.id for row in rows[:-REPEAT_AFTER] if row.kind == "prompt" and row.id not in again]


def _with_slot(tx: sa.Connection, config: CampaignConfig, where: dict[str, Any]) -> list[int]:
    """Return the oldest task of others that still needs a judgement: one with responses, or one whose sampling nobody is at."""
    return list(tx.execute(_WITH_SLOT, {**where, "overlap": config.overlap}).scalars())


def _from_queue(tx: sa.Connection, config: CampaignConfig, user: int, current: int, now: float) -> int | None:
    """Make a task of the next prompt of the queue, if there is one."""
    prompt = tx.execute(_PROMPT, {"campaign": config.name}).one_or_none()
    if prompt is None:
        return None
    task = new_task(tx, config, now, kind="prompt", dialog=prompt.dialog, source=f"queue: {prompt.source}"[:200], round_id=current)
    tx.execute(_GIVEN, {"prompt": prompt.id, "task": task})
    hold(tx, task, user, config, now, slot=0)
    return task


def new_task(tx: sa.Connection, config: CampaignConfig, now: float, **values: Any) -> int:
    """Insert a task, with what to sample for it unless it brings draws along. Returns its number."""
    made = tx.execute(sa.insert(tasks), {"campaign": config.name, "attempt": 0, "complete": False, "created": now, **values}).inserted_primary_key
    assert made is not None
    task = int(made[0])
    if "draws" not in values:
        tx.execute(_DRAWN, {"task": task, "drawn": draws_of(config, task, 0)})
    return task


def draws_of(config: CampaignConfig, task: int, attempt: int) -> list[dict[str, Any]]:
    """Return what to sample for a task, as it is stored."""
    drawn = draw_variants(config, task, attempt)
    return [{"model": model, "temperature": temperature, "seed": seed} for model, temperature, seed in drawn]


def next_dialog(tx: sa.Connection, row: sa.Row[Any], user: int, config: CampaignConfig) -> dict[str, Any]:
    """Return a judged dialog with the response that goes on: the edit, where there is one, else the chosen one. Raises `Refused` as `Tasks.proceed` says."""
    judged = current_judgement(tx, row.id, user)
    if judged is None or judged.kind != "judged":
        raise Refused("not judged", f"task {row.id} has no judgement of yours to go on from")
    if tx.execute(sa.select(tasks.c.id).where(tasks.c.parent_id == row.id, tasks.c.owner == user)).first():
        raise Refused("dialog went on", f"task {row.id} was continued before")
    turns = num_turns(row.dialog)
    if turns >= config.max_turns:
        raise Refused("dialog is full", f"it has {turns} turns, accepted are {config.max_turns}")
    said = judged.judgement
    left = judged.left_response
    chosen = row.responses[left if said["side"] == "left" else 1 - left]["message"]
    going_on = chosen if said["edit"] is None else {"role": "assistant", "content": said["edit"]}
    return {**row.dialog, "messages": [*row.dialog["messages"], going_on]}


def num_turns(dialog: dict[str, Any]) -> int:
    """Return how many messages of the user a stored dialog has."""
    return sum(message["role"] == "user" for message in dialog["messages"])
