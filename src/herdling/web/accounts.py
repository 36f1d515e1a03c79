"""Coming in and going out: login, the one-time link of the start, invitations, people."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from herdling.base.errors import Refused
from herdling.preference.accounts import ROLES, Role, User
from herdling.web.desk import Desk, desk_of, read_form, signed_in
from herdling.web.pages import page
from herdling.web.security import csrf_token, new_cookie_value, set_cookie

SESSION_SECONDS = 14 * 86400


async def show_login(request: Request) -> Response:
    """GET /login."""
    return _door(request, "login")


async def login(request: Request) -> Response:
    """POST /login: name, password. Failures are counted for each caller here and for each account in the store."""
    desk = desk_of(request)
    fields = await read_form(request, cookie=desk.visitor_cookie)
    caller = request.client.host if request.client else ""
    name = fields.get("name", "")
    if desk.throttle.blocked(caller):
        return _door(request, "login", 429, name=name, error="Too many logins failed from your address. Wait a quarter of an hour.")
    try:
        token = await run_in_threadpool(desk.store.accounts.login, name, fields.get("password", ""), valid_seconds=SESSION_SECONDS)
    except Refused as refused:
        desk.throttle.failed(caller)
        return _door(request, "login", 429 if refused.reason == "too many attempts" else 403, name=name, error=_sentence(refused))
    return _enter(request, token)


async def logout(request: Request) -> Response:
    """POST /logout."""
    desk = desk_of(request)
    await read_form(request)
    await run_in_threadpool(desk.store.accounts.logout, request.cookies.get(desk.cookie, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(desk.cookie, path="/")
    # What the annotator typed lies in this browser for the case of a crash; the next person at it must not find it.
    response.headers["Clear-Site-Data"] = '"storage"'
    return response


async def enter(request: Request) -> Response:
    """GET /enter/TOKEN: the one-time link that the server printed. The second time it only leads on who is logged in already."""
    desk = desk_of(request)
    entrance = desk.entrance
    if entrance is None or not entrance.name or not hmac.compare_digest(entrance.token.encode(), request.path_params["token"].encode()) or entrance.used:
        session = request.cookies.get(desk.cookie)
        user = await run_in_threadpool(desk.store.accounts.session, session) if session else None
        error = "This link opens the door once, and was used or is of an earlier start. Start the server again for a new one."
        return _door(request, "login", 403, error=error) if user is None else RedirectResponse("/", 303)
    entrance.used = True
    return _enter(request, await run_in_threadpool(desk.store.accounts.login, entrance.name, entrance.password, valid_seconds=SESSION_SECONDS))


async def show_join(request: Request) -> Response:
    """GET /join/TOKEN: an invitation, or the link that sets up the first admin."""
    try:
        role = await _offered(desk_of(request), request.path_params["token"])
    except Refused as refused:
        return _door(request, "login", 403, error=_sentence(refused))
    return _door(request, "join", role=role)


async def join(request: Request) -> Response:
    """POST /join/TOKEN: name, password, twice."""
    desk, token = desk_of(request), request.path_params["token"]
    fields = await read_form(request, cookie=desk.visitor_cookie)
    name, password = fields.get("name", ""), fields.get("password", "")
    try:
        role = await _offered(desk, token)
    except Refused as refused:
        return _door(request, "login", 403, error=_sentence(refused))
    if password != fields.get("again"):
        return _door(request, "join", 400, role=role, name=name, error="The two passwords differ. Type both again.")
    try:
        if _sets_up(desk, token):
            await run_in_threadpool(desk.store.accounts.add, name, password, "admin")
            desk.entrance.used = True  # type: ignore[union-attr]
        else:
            await run_in_threadpool(desk.store.accounts.accept, token, name, password)
    except Refused as refused:
        return _door(request, "join", 400, role=role, name=name, error=_sentence(refused))
    return _enter(request, await run_in_threadpool(desk.store.accounts.login, name, password, valid_seconds=SESSION_SECONDS))


async def people(request: Request) -> Response:
    """GET /people: who has an account."""
    user = await signed_in(request, "admin")
    return await _people(request, user)


async def invite(request: Request) -> Response:
    """POST /people/invite: role. The link is shown once."""
    user = await signed_in(request, "admin")
    role = _role((await read_form(request)).get("role", ""))
    token = await run_in_threadpool(desk_of(request).store.accounts.invite, role, user.id)
    return await _people(request, user, invited=role, link=str(request.base_url.replace(path=f"/join/{token}")))


async def change_person(request: Request) -> Response:
    """POST /people/ID: role, active. Nobody can shut the door on themselves."""
    user = await signed_in(request, "admin")
    fields, person = await read_form(request), request.path_params["person"]
    if person == user.id:
        return await _people(request, user, status=400, error="You cannot change your own account: ask another admin.")
    accounts = desk_of(request).store.accounts
    if "role" in fields:
        await run_in_threadpool(accounts.set_role, person, _role(fields["role"]))
    if "active" in fields:
        await run_in_threadpool(accounts.set_active, person, fields["active"] == "yes")
    return RedirectResponse("/people", 303)


async def _people(request: Request, user: User, *, status: int = 200, **values: Any) -> Response:
    listed = await run_in_threadpool(desk_of(request).store.accounts.users)
    shown = {"error": "", "link": "", "invited": "", **values}
    return page(request, "people", user=user, status=status, people=listed, roles=ROLES, **shown)


def _role(text: str) -> Role:
    if text not in ROLES:
        raise Refused("bad request", f"found the role {text!r}, accepted: {', '.join(ROLES)}")
    return text


def _sets_up(desk: Desk, token: str) -> bool:
    entrance = desk.entrance
    return entrance is not None and not entrance.name and not entrance.used and hmac.compare_digest(entrance.token.encode(), token.encode())


async def _offered(desk: Desk, token: str) -> Role:
    return "admin" if _sets_up(desk, token) else await run_in_threadpool(desk.store.accounts.invitation, token)


def _door(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Show a page to somebody without a session. The proof of origin of its form hangs on a cookie of its own."""
    desk = desk_of(request)
    visitor = request.cookies.get(desk.visitor_cookie) or new_cookie_value()
    shown = {"error": "", "name": "", **values}
    response = page(request, template, csrf=csrf_token(visitor), status=status, **shown)
    set_cookie(request, response, desk.visitor_cookie, visitor)
    return response


def _enter(request: Request, token: str) -> Response:
    response = RedirectResponse("/", 303)
    set_cookie(request, response, desk_of(request).cookie, token, max_age=SESSION_SECONDS)
    return response


def _sentence(refused: Refused) -> str:
    text = str(refused).removeprefix(f"{refused.reason}: ")
    return f"{refused.reason[:1].upper()}{refused.reason[1:]}: {text}{'' if text.endswith('.') else '.'}"


ROUTES = [
    Route("/login", show_login),
    Route("/login", login, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/enter/{token}", enter),
    Route("/join/{token}", show_join),
    Route("/join/{token}", join, methods=["POST"]),
    Route("/people", people),
    Route("/people/invite", invite, methods=["POST"]),
    Route("/people/{person:int}", change_person, methods=["POST"]),
]
