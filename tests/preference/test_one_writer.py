"""Many writers, one transaction: each work whole or not at all, and nobody hears of what is not on the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from herdling.base.errors import Refused
from herdling.preference.one_writer import MAX_GROUP, OneWriter

COUNT = sa.text("SELECT count(*) FROM numbers")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/numbers.db", connect_args={"timeout": 5})
    sa.event.listen(engine, "connect", lambda connection, record: setattr(connection, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


def put(number: int) -> Callable[[sa.Connection], int]:
    def work(tx: sa.Connection) -> int:
        tx.execute(sa.text("INSERT INTO numbers VALUES (:number)"), {"number": number})
        return tx.execute(COUNT).scalar_one()

    return work


class Gate:
    """A work that holds the transaction open until it is let go, so that others gather behind it."""

    def __init__(self) -> None:
        self.entered, self.left = threading.Event(), threading.Event()

    def __call__(self, tx: sa.Connection) -> None:
        self.entered.set()
        assert self.left.wait(10)


def gathered(writer: OneWriter, pool: ThreadPoolExecutor, works: list[Callable[[sa.Connection], Any]]) -> tuple[Gate, list[Any]]:
    """Start works that all wait behind a gate, in this order; return the gate and what is to come of them."""
    gate = Gate()
    first = pool.submit(writer.write, gate)
    assert gate.entered.wait(10)
    coming = []
    for number, work in enumerate(works, start=1):
        coming.append(pool.submit(writer.write, work))
        while len(writer._waiting) < number:
            time.sleep(0.001)
    return gate, [first, *coming]


def test_what_waits_together_is_written_together_in_its_order(engine: sa.Engine) -> None:
    commits = []
    sa.event.listen(engine, "commit", lambda connection: commits.append(1))
    writer = OneWriter(engine)
    with ThreadPoolExecutor(9) as pool:
        gate, coming = gathered(writer, pool, [put(number) for number in range(8)])
        gate.left.set()
        assert [each.result(10) for each in coming[1:]] == list(range(1, 9))  # each sees what those before it wrote
    assert len(commits) == 2  # the gate's, and one for all eight


def test_what_is_refused_leaves_nothing_and_harms_no_neighbour(engine: sa.Engine) -> None:
    def refused(tx: sa.Connection) -> None:
        put(7)(tx)
        raise Refused("example", "half way")

    writer = OneWriter(engine)
    with ThreadPoolExecutor(9) as pool:
        gate, coming = gathered(writer, pool, [put(1), refused, put(1), put(2)])
        gate.left.set()
        assert [coming[1].result(10), coming[4].result(10)] == [1, 2]
        with pytest.raises(Refused, match="half way"):
            coming[2].result(10)
        with pytest.raises(IntegrityError):
            coming[3].result(10)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT number FROM numbers ORDER BY number")).scalars().all() == [1, 2]


def test_a_commit_that_fails_fails_all_who_were_in_it_and_the_next_goes_on(engine: sa.Engine) -> None:
    commits = []

    def refuse_the_second(connection: Any) -> None:
        commits.append(1)
        if len(commits) == 2:
            raise OSError("the disk is full")

    sa.event.listen(engine, "commit", refuse_the_second)
    writer = OneWriter(engine)
    with ThreadPoolExecutor(9) as pool:
        gate, coming = gathered(writer, pool, [put(number) for number in range(3)])
        gate.left.set()
        for each in coming[1:]:
            with pytest.raises(OSError, match="the disk is full"):
                each.result(10)
    with engine.connect() as connection:
        assert connection.execute(COUNT).scalar_one() == 0
    assert writer.write(put(5)) == 1


def test_nothing_is_acknowledged_before_it_is_committed(engine: sa.Engine, tmp_path: Path) -> None:
    writer, other = OneWriter(engine), sa.create_engine(f"sqlite:///{tmp_path}/numbers.db")

    def write_and_look(number: int) -> bool:
        writer.write(put(number))
        with other.connect() as connection:  # another process's view
            return connection.execute(sa.text("SELECT count(*) FROM numbers WHERE number = :number"), {"number": number}).scalar_one() == 1

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(write_and_look, range(3 * MAX_GROUP)))
    other.dispose()
