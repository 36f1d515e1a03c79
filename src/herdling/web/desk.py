"""What the pages work with, and who is asking: the store of preferences, the sampler, where rounds are frozen, the session of a request.

Handlers read their input with `read_json` or `read_form`, which check the proof of origin first, and call the store in a thread: it blocks on the database.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from herdling.base.decode import decode
from herdling.base.errors import Refused, SettingsError
from herdling.preference.accounts import ROLES, Role, User
from herdling.preference.store import Store
from herdling.web.sampler import Sampler
from herdling.web.security import CSRF_FIELD, CSRF_HEADER, Throttle, csrf_holds, csrf_token

T = TypeVar("T")


@dataclass(slots=True)
class Entrance:
    """A link that opens a door once, printed by whoever started the server: into the account of `name`, or, without a name, to set up the first admin."""

    token: str
    name: str = ""
    password: str = ""
    used: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One server's things."""

    store: Store
    sampler: Sampler
    rounds: Path
    """The folder that closed rounds are written to."""
    entrance: Entrance | None = None
    cookie: str = "herdling"
    """Name of the session's cookie. Browsers share cookies between ports: two servers on a machine need two names."""
    throttle: Throttle = field(default_factory=Throttle)

    @property
    def visitor_cookie(self) -> str:
        """Name of the cookie that proves the origin of a form before there is a session."""
        return f"{self.cookie}_visitor"


def desk_of(request: Request) -> Desk:
    """Return the desk that this request is served at."""
    desk: Desk = request.app.state.desk
    return desk


async def signed_in(request: Request, role: Role = "annotator") -> User:
    """Return who is asking.

    Raises:
        HTTPException: 401 without a session, 403 for a role below `role`.
    """
    desk = desk_of(request)
    token, accounts = request.cookies.get(desk.cookie), desk.store.accounts
    user = (accounts.remembered(token) or await run_in_threadpool(accounts.session, token)) if token else None
    if user is None:
        raise HTTPException(401, "You are not logged in, or your session is over. Log in again: what you typed is kept.")
    if ROLES.index(user.role) < ROLES.index(role):
        raise HTTPException(403, f"This is for {role}s. Ask an admin for that role.")
    return user


def page_token(request: Request) -> str:
    """Return the token that a signed-in page puts into its changes."""
    return csrf_token(request.cookies.get(desk_of(request).cookie, ""))


def check_token(request: Request, token: str, *, cookie: str | None = None) -> None:
    """Check the proof that our own page asks. Raises `HTTPException` (403)."""
    if not csrf_holds(request.cookies.get(cookie or desk_of(request).cookie), token):
        raise HTTPException(403, "This page is of an older session. Reload it and try again: what you typed is kept.")


async def read_json(request: Request, cls: Callable[..., T]) -> T:
    """Return the JSON body as settings of class `cls`, strictly.

    Raises:
        HTTPException: 403 without the proof of origin, 415 when it is no JSON.
        Refused: "bad request", with the first field that is wrong.
    """
    check_token(request, request.headers.get(CSRF_HEADER, ""))
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Expected application/json.")
    try:
        body = json.loads(await request.body())
        if not isinstance(body, dict):
            raise SettingsError(f"body: found {type(body).__name__}, expected an object")
        return decode(cls, body, "")  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise Refused("bad request", f"the body is no JSON ({error})") from None
    except SettingsError as error:
        raise Refused("bad request", str(error).splitlines()[0]) from None


async def read_form(request: Request, *, cookie: str | None = None) -> dict[str, str]:
    """Return the fields of a form, after its proof of origin. Raises `HTTPException` (403)."""
    async with request.form(max_files=0, max_fields=20) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    check_token(request, fields.get(CSRF_FIELD, ""), cookie=cookie)
    return fields
