"""One database, SQLite or PostgreSQL: connections, transactions that happen whole or not at all, writes that happen once, migrations.

SQLite runs in WAL mode with foreign keys and full durability: a commit that was acknowledged survives a kill and a power cut, readers never wait for the
one writer, and what threads write at the same time shares a commit (`one_writer`). PostgreSQL is read-committed; rows that decide something are locked, and
the unique constraints hold what locks would miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from herdling.base.artifact import value_fingerprint
from herdling.base.errors import MissingExtraError, Refused, SettingsError, StorageError

try:
    import alembic.command
    import alembic.config
    import alembic.migration
    import alembic.script
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "The store of preferences") from None

from herdling.preference.one_writer import OneWriter
from herdling.preference.schema import events, submissions

T = TypeVar("T")
BUSY_SECONDS = 30
ATTEMPTS = 8
MAX_KEY = 100
_RETRIED = ("40001", "40P01")  # PostgreSQL: could not serialize, deadlock found
_MIGRATION_LOCK = 7_238_115_904_311  # any number of our own: two processes must not migrate at once


_OF_KEY = sa.and_(submissions.c.user_id == sa.bindparam("user"), submissions.c.key == sa.bindparam("sent"))
_SUBMISSION = sa.select(submissions).where(_OF_KEY)
_ANSWERED = sa.update(submissions).where(_OF_KEY).values(result=sa.bindparam("answer"))


class Database:
    """Connections to one database, brought up to date when it is opened."""

    def __init__(self, url: str) -> None:
        """Open `sqlite:///PATH` or `postgresql://...`. Raises as `store.Store` says."""
        self._engine = _engine(url)
        self._one_writer = OneWriter(self._engine) if self._engine.dialect.name == "sqlite" else None
        try:
            self._migrate()
        except BaseException as error:
            self.close()
            if not isinstance(error, DBAPIError):
                raise
            raise StorageError(f"{self._engine.url!r}: cannot open the database ({str(error.orig).strip()})") from error

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction of its own, for reading."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one transaction and return what it returns. It runs again when another writer was faster, so it must touch nothing else.

        It may run in another thread, beside the work of others; it happens whole or not at all whatever becomes of theirs.
        """
        for attempt in range(ATTEMPTS):
            try:
                if self._one_writer is not None:
                    return self._one_writer.write(work)
                with self._engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                raced = isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", "") in _RETRIED
                if not raced or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def once(self, user: int, key: str, request: Any, now: float, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` once for this user's key, and return its first result (plain data) for every repetition.

        Raises:
            Refused: "key missing", or "key reused" where the key came with another request before.
        """
        if not 0 < len(key) <= MAX_KEY:
            raise Refused("key missing", f"found {len(key):,} characters, expected a key of 1 to {MAX_KEY} that the page made for this one submission")
        digest = value_fingerprint(request)

        def attempt(tx: sa.Connection) -> T:
            which = {"user": user, "sent": key}
            before = tx.execute(_SUBMISSION, which).one_or_none()
            if before is None:
                # Claimed first, so that the same submission sent twice at once waits here for its twin instead of meeting what the twin did.
                tx.execute(sa.insert(submissions), {"user_id": user, "key": key, "request": digest, "result": {}, "at": now})
                result = work(tx)
                tx.execute(_ANSWERED, {**which, "answer": result})
                return result
            if before.request != digest:
                raise Refused("key reused", f"the key {key!r} came with another submission before; make a new one for each")
            first: T = before.result
            return first

        return self.write(attempt)

    def _migrate(self) -> None:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        scripts = alembic.script.ScriptDirectory.from_config(config)
        known, head = {script.revision for script in scripts.walk_revisions()}, scripts.get_current_head()

        def upgrade(tx: sa.Connection) -> None:
            if self._engine.dialect.name == "postgresql":
                tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            stands = alembic.migration.MigrationContext.configure(tx).get_current_revision()
            if stands is not None and stands not in known:
                raise StorageError(f"{self._engine.url!r}: was written by a newer herdling (form {stands}, this version knows {head}). Update herdling")
            if stands != head:
                config.attributes["connection"] = tx
                alembic.command.upgrade(config, "head")

        self.write(upgrade)


def log(tx: sa.Connection, now: float, kind: str, *, campaign: str | None = None, user: int | None = None, task: int | None = None, **facts: Any) -> None:
    """Append a line to the log of events."""
    tx.execute(sa.insert(events), {"at": now, "kind": kind, "campaign": campaign, "user_id": user, "task_id": task, "facts": facts})


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise SettingsError(f"database: found {url!r}, expected sqlite:///PATH or postgresql://USER@HOST/NAME") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return _sqlite(parsed)
    if kind == "postgresql":
        try:
            return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_size=16, max_overflow=48, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise MissingExtraError("psycopg", "postgres", "A PostgreSQL database") from None
    raise SettingsError(f"database: found {url!r}, expected sqlite:///PATH (a file) or postgresql://USER@HOST/NAME")


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=16, max_overflow=48)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions late and end them around DDL; we begin them ourselves
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that will write takes the write lock at once: one that reads first and writes later could find its reading stale.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
