from __future__ import annotations

from pathlib import Path

import pytest
from starlette.types import ASGIApp

from herdling.preference.store import Store
from herdling.web.app import annotation_app
from herdling.web.desk import Desk, Entrance
from tests.web.toy_campaign import PASSWORD, toy_desk
from tests.web.toy_client import Person

HOSTILE = "<script>alert('x')</script>"


def test_logging_in_and_out(app: ASGIApp) -> None:
    person = Person(app)
    assert person.http.get("/").headers["location"] == "/login"
    assert person.login("bob").headers["location"] == "/"
    assert "helpful" in person.http.get("/").text
    response = person.form("/", "/logout")
    assert response.headers["clear-site-data"] == '"storage"'
    assert person.http.get("/").headers["location"] == "/login"


def test_a_session_that_was_logged_out_is_dead_though_its_cookie_is_sent_again(bob: Person) -> None:
    cookie = bob.http.cookies["herdling"]
    bob.form("/", "/logout")
    bob.http.cookies.set("herdling", cookie)
    assert bob.http.get("/").headers["location"] == "/login"


def test_a_wrong_login_does_not_say_which_part_is_wrong(app: ASGIApp) -> None:
    wrong_password, nobody = Person(app).login("bob", "wrong password"), Person(app).login("nobody", "wrong password")
    assert wrong_password.status_code == nobody.status_code == 403
    assert (
        wrong_password.text.replace("bob", "nobody").partition("<p class")[2].partition("</p>")[0] == nobody.text.partition("<p class")[2].partition("</p>")[0]
    )


def test_after_five_failures_an_account_waits_even_with_the_right_password(app: ASGIApp) -> None:
    for _ in range(5):
        assert Person(app).login("bob", "wrong password").status_code == 403
    late = Person(app).login("bob")
    assert late.status_code == 429
    assert "Too many attempts" in late.text
    assert Person(app).login("cleo").status_code == 303


def test_after_twenty_failures_an_address_waits_whatever_names_it_tries(desk: Desk, app: ASGIApp) -> None:
    desk.throttle.most = 3  # the rule, not the hashing of twenty passwords
    for number in range(3):
        Person(app, "192.0.2.66").login(f"name {number}", "wrong password")
    assert "from your address" in Person(app, "192.0.2.66").login("bob").text
    assert Person(app, "192.0.2.67").login("bob").status_code == 303


def test_what_was_typed_as_a_name_is_shown_as_text(app: ASGIApp) -> None:
    text = Person(app).login(HOSTILE, "wrong password").text
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_an_invitation_makes_one_account_of_its_role(ada: Person, app: ASGIApp) -> None:
    text = ada.form("/people", "/people/invite", role="reviewer").text
    link = text.partition("http://testserver")[2].partition('"')[0]
    assert link.startswith("/join/")
    assert link not in ada.http.get("/people").text  # shown once
    guest = Person(app)
    assert "<b>reviewer</b>" in guest.http.get(link).text
    fields = {"name": "dora", "password": "a long enough one", "again": "a long enough one"}
    assert "differ" in guest.form(link, link, **{**fields, "again": "another"}).text
    assert "Weak password" in guest.form(link, link, **{**fields, "password": "short", "again": "short"}).text
    assert "Name taken" in guest.form(link, link, **{**fields, "name": "bob"}).text
    assert guest.form(link, link, **fields).headers["location"] == "/"
    assert guest.http.get("/dashboard/helpful").status_code == 200
    assert Person(app).http.get(link).status_code == 403


@pytest.mark.parametrize("name", ["bob", "rev"])
def test_only_admins_see_and_change_people(app: ASGIApp, name: str) -> None:
    person = Person(app)
    person.login(name)
    assert person.http.get("/people").status_code == 403
    for path, fields in {"/people/invite": {"role": "admin"}, "/people/1": {"role": "annotator"}}.items():
        assert person.form("/", path, **fields).status_code == 403


def test_an_account_that_is_closed_is_out_at_once_and_can_come_back(ada: Person, bob: Person, store: Store) -> None:
    number = next(user.id for user in store.accounts.users() if user.name == "bob")
    ada.form("/people", f"/people/{number}", active="no")
    assert bob.http.get("/").headers["location"] == "/login"
    assert bob.login("bob").status_code == 403
    ada.form("/people", f"/people/{number}", active="yes")
    assert bob.login("bob").status_code == 303


def test_a_role_is_changed_for_others_and_not_for_oneself(ada: Person, bob: Person, store: Store) -> None:
    numbers = {user.name: user.id for user in store.accounts.users()}
    ada.form("/people", f"/people/{numbers['bob']}", role="reviewer")
    assert bob.http.get("/dashboard/helpful").status_code == 200
    assert "ask another admin" in ada.form("/people", f"/people/{numbers['ada']}", role="annotator").text
    assert ada.form("/people", f"/people/{numbers['bob']}", role="emperor").status_code == 400
    assert ada.http.get("/people").status_code == 200


def test_the_link_of_the_start_opens_once(store: Store, tmp_path: Path) -> None:
    app = annotation_app(toy_desk(store, tmp_path, Entrance(token="token", name="ada", password=PASSWORD)))
    first, second = Person(app), Person(app)
    assert first.http.get("/enter/wrong").status_code == 403
    assert first.http.get("/enter/token").headers["location"] == "/"
    assert first.http.get("/people").status_code == 200
    assert first.http.get("/enter/token").headers["location"] == "/"  # a reload of the one who is in
    assert second.http.get("/enter/token").status_code == 403
    assert second.http.get("/").headers["location"] == "/login"


def test_the_first_admin_is_set_up_by_the_link_of_the_start_and_no_second_one(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'new.db'}")
    app = annotation_app(toy_desk(store, tmp_path, Entrance(token="token")))
    fields = {"name": "root", "password": "a long enough one", "again": "a long enough one"}
    assert Person(app).http.get("/enter/token").status_code == 403  # there is no account to enter
    assert Person(app).form("/join/token", "/join/token", **fields).headers["location"] == "/"
    assert [(user.name, user.role) for user in store.accounts.users()] == [("root", "admin")]
    assert Person(app).http.get("/join/token").status_code == 403
    store.close()
