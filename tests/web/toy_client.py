"""A browser's worth of HTTP without a browser: cookies, the token of the page, forms and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient
from starlette.types import ASGIApp

from tests.web.toy_campaign import PASSWORD


class Person:
    """Somebody at a browser. `address` is where they come from."""

    def __init__(self, app: ASGIApp, address: str = "192.0.2.1") -> None:
        self.http = TestClient(app, client=(address, 50000), raise_server_exceptions=False, follow_redirects=False)

    def token(self, path: str) -> str:
        """Return the token of a page's forms or script."""
        found = re.search(r'(?:name="csrf" value|data-csrf)="([0-9a-f]{64})"', self.http.get(path).text)
        assert found, path
        return found[1]

    def login(self, name: str, password: str = PASSWORD) -> Any:
        return self.http.post("/login", data={"csrf": self.token("/login"), "name": name, "password": password})

    def form(self, page: str, path: str, **fields: Any) -> Any:
        """Send a form of a page."""
        return self.http.post(path, data={"csrf": self.token(page), **fields})

    def ask(self, campaign: str, name: str, /, *, token: str | None = None, **body: Any) -> Any:
        """Ask as the page's script does; return the response."""
        csrf = self.token(f"/annotate/{campaign}") if token is None else token
        return self.http.post(f"/annotate/{campaign}/{name}", json=body, headers={"x-csrf-token": csrf})

    def told(self, campaign: str, name: str, /, **body: Any) -> Any:
        """Ask, and return the JSON of an answer that is expected to be good."""
        response = self.ask(campaign, name, **body)
        assert response.status_code == 200, response.text
        return response.json()

    def judging(self, campaign: str = "helpful", prompt: str = "Why is the sky blue?") -> dict[str, Any]:
        """Write a prompt and have it answered; return the held task with its answers."""
        task = self.told(campaign, "prompt", text=prompt, key=f"prompt {campaign} {prompt}")["task"]
        return {**task, **self.told(campaign, "answers", task=task["task"], lease=task["lease"])}


@contextmanager
def person(app: ASGIApp, name: str) -> Iterator[Person]:
    """Somebody who is logged in."""
    somebody = Person(app)
    assert somebody.login(name).status_code == 303
    yield somebody
