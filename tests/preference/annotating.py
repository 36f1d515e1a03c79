"""Annotators as processes and threads of their own, for tests of races and of kills."""

from __future__ import annotations

import os
import random
from pathlib import Path

from herdling.base.errors import Refused
from herdling.preference.store import Store
from herdling.preference.tasks import Assignment
from tests.preference.desk import LEFT, answer


def annotate(store: Store, campaign: str, user: int, *, chance: random.Random, acknowledged: Path | None = None) -> int:
    """Judge until nothing waits, sending each submission once or more, as a page does whose replies get lost. Returns how many tasks were judged.

    `acknowledged` gets a line for each submission once it was answered, on disk before the next one begins.
    """
    judged = 0
    while (held := store.tasks.next(campaign, user)) is not None:
        held = filled(store, held, user)
        for _ in range(chance.randint(1, 3)):
            submitted = store.judgements.submit(held.task, user, held.lease, LEFT, key=f"judge-{held.task}")
        judged += 1
        if acknowledged is not None:
            with acknowledged.open("a") as file:
                file.write(f"{submitted.task} {submitted.revision}\n")
                file.flush()
                os.fsync(file.fileno())
    return judged


def filled(store: Store, held: Assignment, user: int) -> Assignment:
    """Let the models answer if they did not yet."""
    if held.draws is None:
        return held
    first, second = held.draws
    return store.tasks.fill(held.task, user, held.lease, (answer(first, held.task), answer(second, held.task)))


def annotate_until_killed(url: str, campaign: str, user: int, acknowledged: Path, done: Path) -> None:
    """Annotate in a process that may be killed at any moment; at its end it says so with a file."""
    store = Store(url)
    try:
        annotate(store, campaign, user, chance=random.Random(user), acknowledged=acknowledged)
    finally:
        store.close()
    done.touch()


def close_until_killed(url: str, campaign: str, folder: Path, done: Path) -> None:
    """Close the first round in a process that may be killed at any moment; at its end it says so with a file."""
    store = Store(url)
    try:
        store.rounds.close(campaign, folder, number=1)
    finally:
        store.close()
    done.touch()


def submit_until_closed(store: Store, campaign: str, user: int) -> list[int]:
    """Judge until the round closes. Returns the tasks whose judgement was acknowledged in the first round."""
    accepted = []
    while True:
        held = store.tasks.next(campaign, user)
        if held is None:
            return accepted
        try:
            held = filled(store, held, user)
            submitted = store.judgements.submit(held.task, user, held.lease, LEFT, key=f"judge-{held.task}")
        except Refused as error:
            if error.reason != "round closed":
                raise
            return accepted
        if submitted.round != f"{campaign}-01":
            return accepted
        accepted.append(submitted.task)
