from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from herdling.preference.store import Store
from herdling.types import Dialog, Message
from herdling.web.app import annotation_app
from herdling.web.desk import Desk
from tests.web.toy_campaign import toy_config, toy_desk, toy_store
from tests.web.toy_client import Person


@pytest.fixture(scope="session")
def seed_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with people and campaigns: hashing passwords takes a while, so it is done once."""
    path = tmp_path_factory.mktemp("seed") / "preferences.db"
    store = toy_store(f"sqlite:///{path}")
    for config in (toy_config(), toy_config("edits", style="llama3"), toy_config("safe", kind="safety"), toy_config("queue", own_prompts=False)):
        store.campaigns.put(config)
    store.campaigns.add_prompts("queue", [Dialog(id=f"{n}", messages=(Message(role="user", content=f"Question {n}?"),)) for n in range(9)], source="toy")
    store.close()
    return path


@pytest.fixture
def store(seed_database: Path, tmp_path: Path) -> Iterator[Store]:
    for file in seed_database.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    store = Store(f"sqlite:///{tmp_path / 'preferences.db'}")
    yield store
    store.close()


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Iterator[Desk]:
    desk = toy_desk(store, tmp_path / "rounds")
    yield desk
    desk.sampler.close()


@pytest.fixture
def app(desk: Desk) -> ASGIApp:
    return annotation_app(desk)


@pytest.fixture
def bob(app: ASGIApp) -> Person:
    bob = Person(app)
    assert bob.login("bob").status_code == 303
    return bob


@pytest.fixture
def cleo(app: ASGIApp) -> Person:
    cleo = Person(app, "192.0.2.2")
    assert cleo.login("cleo").status_code == 303
    return cleo


@pytest.fixture
def ada(app: ASGIApp) -> Person:
    ada = Person(app, "192.0.2.3")
    assert ada.login("ada").status_code == 303
    return ada
