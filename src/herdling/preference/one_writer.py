"""SQLite's one writer: what many threads want to write at once becomes one transaction, with one wait for the disk.

A commit waits for the disk, and one at a time may write: fifty threads one after another would wait fifty times. So the first thread that comes leads: it runs
its own work and that of all who wait, in their order, each within a savepoint, and commits once. Nobody hears of a result before that commit. Work that is
refused takes only its own savepoint back. Then the first of those who came meanwhile leads the next group. What stands in the end is what one after another
would have written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from herdling.base.errors import StorageError

T = TypeVar("T")
MAX_GROUP = 64
"""Works in one transaction, so that the first of them does not wait for ever."""


class _Job:
    """One thread's work, and what became of it."""

    def __init__(self, work: Callable[[sa.Connection], Any]) -> None:
        self.work = work
        self.told = threading.Event()
        """Set when the work was done, or when its thread is to lead."""
        self.written = False
        self.result: Any = None
        self.failed: BaseException | None = None


class OneWriter:
    """Writes for all threads of a process. Other processes are waited for by SQLite itself."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: list[_Job] = []
        self._led = False

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction that is committed when this returns. Raises what `work` raised, or what kept the transaction from being committed."""
        job = _Job(work)
        with self._lock:
            self._waiting.append(job)
            leads, self._led = not self._led, True
        if not leads:
            job.told.wait()
        if not job.written:
            self._lead()
        if job.failed is not None:
            raise job.failed
        return cast(T, job.result)

    def _lead(self) -> None:
        """Write what waits, then let the first who came meanwhile lead."""
        with self._lock:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
        try:
            self._commit(group)
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._led = heir is not None
            for job in group:
                job.written = True
                job.told.set()
            if heir is not None:
                heir.told.set()

    def _commit(self, group: list[_Job]) -> None:
        try:
            with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                for job in group:
                    if len(group) == 1:
                        job.result = job.work(connection)
                    else:
                        _within_savepoint(job, connection)
        except BaseException as error:
            for job in group:  # the transaction is gone, and with it what each had written
                job.failed = error if isinstance(error, Exception) else StorageError("interrupted before it was written; send it again")
            if not isinstance(error, Exception):
                raise


def _within_savepoint(job: _Job, connection: sa.Connection) -> None:
    savepoint = connection.begin_nested()
    try:
        job.result = job.work(connection)
        savepoint.commit()
    except Exception as error:
        savepoint.rollback()
        job.failed = error
