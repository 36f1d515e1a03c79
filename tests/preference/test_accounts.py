from __future__ import annotations

import threading

import pytest

from herdling.base.errors import Refused
from herdling.preference.accounts import FAILURE_SECONDS, MAX_FAILURES, MEMORY_SECONDS
from herdling.preference.store import Store
from tests.preference.desk import Desk

PASSWORD = "correct horse battery"


def reason(caught: pytest.ExceptionInfo[Refused]) -> str:
    return caught.value.reason


def test_an_invited_person_makes_an_account_and_logs_in(desk: Desk) -> None:
    accounts = desk.store.accounts
    token = accounts.invite("reviewer", desk.ann)
    assert accounts.invitation(token) == "reviewer"
    user = accounts.accept(token, " Carol ", PASSWORD)
    assert (user.name, user.role, user.active) == ("carol", "reviewer", True)
    assert user.name not in user.pseudonym
    session = accounts.login("CAROL", PASSWORD)
    assert accounts.session(session) == user
    accounts.logout(session)
    assert accounts.session(session) is None


def test_an_invitation_is_good_once_and_for_its_time_only(desk: Desk) -> None:
    accounts = desk.store.accounts
    token = accounts.invite("annotator", desk.ann, valid_seconds=60)
    accounts.accept(token, "carol", PASSWORD)
    with pytest.raises(Refused) as caught:
        accounts.accept(token, "dave", PASSWORD)
    assert reason(caught) == "invite used"
    late = accounts.invite("annotator", desk.ann, valid_seconds=60)
    desk.clock.now += 60
    with pytest.raises(Refused) as caught:
        accounts.accept(late, "dave", PASSWORD)
    assert reason(caught) == "invite expired"
    with pytest.raises(Refused) as caught:
        accounts.invitation("made up")
    assert reason(caught) == "invite invalid"


def test_an_invitation_used_by_two_at_once_makes_one_account(desk: Desk) -> None:
    token, refused = desk.store.accounts.invite("annotator", desk.ann), []

    def accept(name: str) -> None:
        try:
            desk.store.accounts.accept(token, name, PASSWORD)
        except Refused as error:
            refused.append(error.reason)

    threads = [threading.Thread(target=accept, args=(name,)) for name in ("carol", "dave", "erin")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["invite used"] * 2
    assert len(desk.store.accounts.users()) == 3


def test_a_refused_attempt_does_not_use_an_invitation_up(desk: Desk) -> None:
    accounts = desk.store.accounts
    token = accounts.invite("annotator", desk.ann)
    for name, password, expected in (("carol", "short", "weak password"), ("Ann", PASSWORD, "name taken"), (" ", PASSWORD, "bad name")):
        with pytest.raises(Refused) as caught:
            accounts.accept(token, name, password)
        assert reason(caught) == expected
    assert accounts.accept(token, "carol", PASSWORD).name == "carol"


def test_neither_passwords_nor_tokens_stand_in_the_database(desk: Desk) -> None:
    accounts = desk.store.accounts
    invite = accounts.invite("annotator", desk.ann)
    accounts.accept(invite, "carol", PASSWORD)
    session = accounts.login("carol", PASSWORD)
    assert desk.count("SELECT count(*) FROM users WHERE password_hash LIKE '$argon2id$%'") == 1
    for table, column, secret in (("sessions", "token_hash", session), ("invitations", "token_hash", invite), ("users", "password_hash", PASSWORD)):
        assert desk.count(f"SELECT count(*) FROM {table}") > 0
        assert desk.count(f"SELECT count(*) FROM {table} WHERE {column} LIKE :secret", secret=f"%{secret}%") == 0


def test_a_wrong_name_and_a_wrong_password_are_refused_alike(desk: Desk) -> None:
    desk.store.accounts.add("carol", PASSWORD, "admin")
    said = []
    for name, password in (("carol", "wrong password"), ("nobody", PASSWORD)):
        with pytest.raises(Refused) as caught:
            desk.store.accounts.login(name, password)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith("wrong login")


def test_guessing_is_throttled_for_this_name_alone_and_for_a_time_only(desk: Desk) -> None:
    accounts = desk.store.accounts
    accounts.add("carol", PASSWORD, "annotator")
    accounts.add("dave", PASSWORD, "annotator")
    for _ in range(MAX_FAILURES):
        with pytest.raises(Refused, match="wrong login"):
            accounts.login("carol", "guess")
    with pytest.raises(Refused, match="too many attempts"):
        accounts.login("carol", PASSWORD)
    assert accounts.session(accounts.login("dave", PASSWORD))
    desk.clock.now += FAILURE_SECONDS
    assert accounts.session(accounts.login("carol", PASSWORD))


def test_a_session_ends_with_its_time_with_a_new_password_and_with_the_account(desk: Desk) -> None:
    accounts = desk.store.accounts
    user = accounts.add("carol", PASSWORD, "annotator")
    session = accounts.login("carol", PASSWORD, valid_seconds=100)
    desk.clock.now += 100
    assert accounts.session(session) is None
    session = accounts.login("carol", PASSWORD)
    accounts.set_password(user.id, "another " + PASSWORD)
    assert accounts.session(session) is None
    session = accounts.login("carol", "another " + PASSWORD)
    accounts.set_active(user.id, False)
    assert accounts.session(session) is None
    with pytest.raises(Refused, match="wrong login"):
        accounts.login("carol", "another " + PASSWORD)


def test_a_role_is_changed_at_once_in_running_sessions(desk: Desk) -> None:
    accounts = desk.store.accounts
    user = accounts.add("carol", PASSWORD, "annotator")
    session = accounts.login("carol", PASSWORD)
    accounts.set_role(user.id, "admin")
    found = accounts.session(session)
    assert found is not None
    assert found.role == "admin"
    with pytest.raises(Refused, match="unknown user"):
        accounts.set_role(12345, "admin")


def test_a_session_is_remembered_here_until_something_changes_and_elsewhere_for_a_few_seconds(desk: Desk) -> None:
    here, other = desk.store.accounts, Store(desk.url, clock=desk.clock)
    user = here.add("carol", PASSWORD, "annotator")
    token = here.login("carol", PASSWORD)
    assert here.remembered(token) is None
    assert here.session(token) == here.remembered(token) == other.accounts.session(token) == user
    here.set_active(user.id, False)
    assert here.session(token) is None
    assert other.accounts.session(token) == user  # another process, which has not heard of it
    desk.clock.now += MEMORY_SECONDS
    assert other.accounts.session(token) is None
    other.close()


def test_a_session_that_ends_is_not_remembered_beyond_its_end(desk: Desk) -> None:
    accounts = desk.store.accounts
    accounts.add("carol", PASSWORD, "annotator")
    token = accounts.login("carol", PASSWORD, valid_seconds=MEMORY_SECONDS / 2)
    assert accounts.session(token) is not None
    desk.clock.now += MEMORY_SECONDS / 2
    assert accounts.remembered(token) is None
    assert accounts.session(token) is None
