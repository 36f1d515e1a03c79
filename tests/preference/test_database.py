from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from herdling.base.errors import Refused, SettingsError, StorageError
from herdling.preference.database import Database
from herdling.preference.schema import APPEND_ONLY, metadata
from tests.preference.desk import Desk


def test_the_migrations_make_the_tables_that_the_code_expects(url: str) -> None:
    database = Database(url)
    with database.read() as tx:
        found = compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata)
    database.close()
    assert found == []


def test_many_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    url, failed = f"sqlite:///{tmp_path}/new.db", []

    def open_it() -> None:
        try:
            Database(url).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_sqlite_runs_in_wal_mode_with_foreign_keys_and_full_durability(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new.db")
    with database.read() as tx:
        pragmas = [tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys", "synchronous")]
    database.close()
    assert pragmas == ["wal", 1, 2]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "no url"])
def test_another_kind_of_url_is_refused_with_what_is_accepted(url: str) -> None:
    with pytest.raises(SettingsError, match="expected sqlite:///PATH"):
        Database(url)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open the database") as caught:
        Database(f"postgresql://user:secret-word@/name?host={tmp_path}")
    assert "secret-word" not in str(caught.value)


def test_a_database_of_a_newer_herdling_is_left_alone(url: str) -> None:
    database = Database(url)
    database.write(lambda tx: tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    with pytest.raises(StorageError, match=r"newer herdling \(form 9999, this version knows 0001\)"):
        Database(url)


@pytest.mark.parametrize("verb", ["UPDATE {} SET {} = 5", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_change_the_log(desk: Desk, verb: str) -> None:
    campaign = desk.campaign(prompts=1)
    desk.judge(desk.next(campaign, desk.ann), desk.ann)
    column = {"judgements": "seconds", "events": "at", "guidelines": "at"}
    for table in APPEND_ONLY:
        assert desk.count(f"SELECT count(*) FROM {table}") > 0
        with pytest.raises(sa.exc.DBAPIError, match=f"{table} is append-only"):
            desk.store.tasks._database.write(lambda tx, table=table: tx.execute(sa.text(verb.format(table, column[table]))))  # type: ignore[misc]


def test_what_fails_half_way_leaves_nothing(desk: Desk) -> None:
    database = desk.store.tasks._database

    def half(tx: sa.Connection) -> Any:
        tx.execute(sa.text("UPDATE users SET role = 'admin'"))
        raise Refused("example", "stop here")

    with pytest.raises(Refused):
        database.once(desk.ann, "key", "request", 0.0, half)
    assert desk.count("SELECT count(*) FROM users WHERE role = 'admin'") == 0
    assert database.once(desk.ann, "key", "request", 0.0, lambda tx: "second try") == "second try"


def test_a_key_works_once_and_for_one_request_only(desk: Desk) -> None:
    database, done = desk.store.tasks._database, []

    def work(tx: sa.Connection) -> int:
        done.append(1)
        return len(done)

    assert [database.once(desk.ann, "key", "request", 0.0, work) for _ in range(3)] == [1, 1, 1]
    assert database.once(desk.bob, "key", "request", 0.0, work) == 2
    with pytest.raises(Refused, match="key reused"):
        database.once(desk.ann, "key", "another", 0.0, work)
    with pytest.raises(Refused, match="key missing"):
        database.once(desk.ann, "", "request", 0.0, work)
    assert len(done) == 2


def test_a_key_sent_many_times_at_once_is_worked_once(desk: Desk) -> None:
    database, results = desk.store.tasks._database, []

    def work(tx: sa.Connection) -> int:
        tx.execute(sa.text("INSERT INTO login_failures (name, at) VALUES ('mark', 1)"))
        return tx.execute(sa.text("SELECT count(*) FROM login_failures")).scalar_one()

    threads = [threading.Thread(target=lambda: results.append(database.once(desk.ann, "key", "request", 0.0, work))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 12
    assert desk.count("SELECT count(*) FROM login_failures") == 1
