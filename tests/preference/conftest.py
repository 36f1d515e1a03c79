from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from herdling.preference.database import Database
from herdling.preference.store import Store
from tests.preference.desk import Clock, Desk
from tests.preference.postgres import BINARIES, running_cluster

_numbers = count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The URL of a running PostgreSQL, with {database} for the name; `migrated` is a database with all tables, to be copied."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed (no /usr/lib/postgresql/*/bin/initdb); .ci/run installs it")
    with running_cluster() as url:
        _ask(url, "CREATE DATABASE migrated")
        Database(url.format(database="migrated")).close()
        yield url


def _ask(url: str, statement: str) -> None:
    with psycopg.connect(url.format(database="postgres"), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, on SQLite and on PostgreSQL in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/preferences.db"
        return
    cluster, name = request.getfixturevalue("cluster"), f"test_{next(_numbers)}"
    _ask(cluster, f"CREATE DATABASE {name} TEMPLATE migrated")
    yield cluster.format(database=name)
    _ask(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def desk(url: str) -> Iterator[Desk]:
    """A store with a campaign, two annotators and a clock that stands still until it is told."""
    clock = Clock()
    store = Store(url, clock=clock)
    try:
        yield Desk.furnish(store, clock, url)
    finally:
        store.close()
