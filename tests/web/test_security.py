from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from herdling.web.annotate import ROUTES as ANNOTATE_ROUTES
from herdling.web.security import MAX_BODY_BYTES, Shield, Throttle, csrf_holds, csrf_token
from tests.web.toy_client import Person

PAGES = ["/login", "/health", "/static/style.css", "/nowhere", "/join/nothing", "/"]


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_forbids_inline_scripts_frames_and_guessing_types(app: ASGIApp, path: str) -> None:
    headers = Person(app).http.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert (headers["x-content-type-options"], headers["x-frame-options"], headers["referrer-policy"]) == ("nosniff", "DENY", "same-origin")


def test_an_unforeseen_fault_shows_no_inner_parts_and_has_the_headers_too() -> None:
    async def fails(request: Request) -> Any:
        raise ValueError("the password is sesame")

    client = TestClient(Shield(Starlette(routes=[Route("/", fails)])), raise_server_exceptions=False)
    response = client.get("/")
    assert response.status_code == 500
    assert "sesame" not in response.text
    assert "content-security-policy" in response.headers


def test_pages_hold_no_inline_script_style_or_handler(ada: Person) -> None:
    for path in ("/", "/annotate/edits", "/annotate/safe", "/dashboard/helpful", "/people", "/login"):
        text = ada.http.get(path).text.lower()
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert all("src=" in part.split(">")[0] for part in text.split("<script")[1:]), path


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(app: ASGIApp) -> None:
    cookies = Person(app).login("bob").headers.get_list("set-cookie")
    assert cookies
    assert all("httponly" in cookie.lower() and "samesite=lax" in cookie.lower() and "secure" not in cookie.lower() for cookie in cookies)


def test_cookies_are_secure_where_the_page_came_by_https(app: ASGIApp) -> None:
    person = Person(app)
    person.http.base_url = "https://testserver"  # type: ignore[assignment]
    assert all("secure" in cookie.lower() for cookie in person.login("bob").headers.get_list("set-cookie"))


@pytest.mark.parametrize("route", [route.path for route in ANNOTATE_ROUTES if route.methods and "POST" in route.methods])
def test_no_change_without_the_page_s_token(bob: Person, cleo: Person, route: str) -> None:
    name = route.rpartition("/")[2]
    for token in ("", "0" * 64, cleo.token("/annotate/helpful")):
        response = bob.ask("helpful", name, token=token)
        assert response.status_code == 403, route
        assert "Reload" in response.json()["message"]


@pytest.mark.parametrize("path", ["/login", "/logout", "/people/invite", "/people/2", "/dashboard/helpful/close", "/join/x"])
def test_no_form_without_its_token(ada: Person, path: str) -> None:
    assert ada.http.post(path, data={"name": "bob", "role": "admin", "number": "1"}).status_code == 403
    assert ada.http.post(path, data={"csrf": "0" * 64, "role": "admin", "number": "1"}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"origin": "http://elsewhere.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}]
)
def test_a_change_that_another_site_asks_for_is_refused_even_with_a_token(bob: Person, headers: dict[str, str]) -> None:
    csrf = bob.token("/annotate/helpful")
    asked = {"json": {"text": "hello", "key": "k"}, "headers": {"x-csrf-token": csrf, **headers}}
    assert bob.http.post("/annotate/helpful/prompt", **asked).status_code == 403  # type: ignore[arg-type]
    assert bob.told("helpful", "next")["task"] is None


def test_our_own_origin_is_let_through(bob: Person) -> None:
    csrf = bob.token("/annotate/helpful")
    headers = {"x-csrf-token": csrf, "origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert bob.http.post("/annotate/helpful/next", json={}, headers=headers).status_code == 200


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(bob: Person) -> None:
    csrf = bob.token("/annotate/helpful")
    long = b'{"text": "' + b"x" * MAX_BODY_BYTES + b'", "key": "k"}'
    headers = {"x-csrf-token": csrf, "content-type": "application/json"}
    assert bob.http.post("/annotate/helpful/prompt", content=long, headers=headers).status_code == 413
    pieces = (long[start : start + 4096] for start in range(0, len(long), 4096))
    assert bob.http.post("/annotate/helpful/prompt", content=pieces, headers=headers).status_code == 413
    assert bob.http.post("/login", content=b"a" * (MAX_BODY_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "no JSON"), (b"[]", "expected an object"), (b'{"text": 1, "key": "k"}', "expected text"), (b'{"text": "a"}', "is missing"), (b"\xff", "no JSON"),
     (b'{"text": "a", "key": "k", "model": "x"}', "unknown setting"), (b"[" * 100_000, "no JSON")],
)  # fmt: skip
def test_a_body_of_another_shape_is_named(bob: Person, content: bytes, reason: str) -> None:
    headers = {"x-csrf-token": bob.token("/annotate/helpful"), "content-type": "application/json"}
    response = bob.http.post("/annotate/helpful/prompt", content=content, headers=headers)
    assert response.status_code == 400
    assert reason in response.json()["message"]


def test_only_json_is_read(bob: Person) -> None:
    headers = {"x-csrf-token": bob.token("/annotate/helpful"), "content-type": "text/plain"}
    assert bob.http.post("/annotate/helpful/next", content=b"{}", headers=headers).status_code == 415


def test_a_token_belongs_to_one_cookie() -> None:
    assert csrf_holds("a", csrf_token("a"))
    assert not csrf_holds("b", csrf_token("a"))
    assert not csrf_holds(None, csrf_token(""))
    assert not csrf_holds("", csrf_token(""))
    assert not csrf_holds("a", "ä")


def test_a_throttle_counts_each_caller_apart_and_forgets_in_time() -> None:
    now = [0.0]
    throttle = Throttle(most=2, seconds=10, clock=lambda: now[0])
    for _ in range(2):
        assert not throttle.blocked("a")
        throttle.failed("a")
    assert throttle.blocked("a")
    assert not throttle.blocked("b")
    now[0] = 10.0
    assert not throttle.blocked("a")
