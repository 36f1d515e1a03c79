"""Reviewing judgements, for reviewers and admins: a round's judgements by filters, the dialog beside what was chosen; setting one aside, and putting it back.

Whoever reviews sees pseudonyms and neither models nor temperatures. Annotators never come here. A closed round is shown and not changed. What was filtered
stands in the address, so that a page can be sent to somebody else, and a change leads back to where it was made.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from herdling.base.errors import Refused
from herdling.preference.accounts import User
from herdling.preference.rating import LEVELS, SAFETY_LABELS
from herdling.preference.review import PAGE_SIZE, Filters, Seen, State
from herdling.web.desk import Desk, desk_of, read_form, signed_in
from herdling.web.pages import page

T = TypeVar("T")
STATES: tuple[State, ...] = get_args(State)
NAMES = ("round", "annotator", "rating", "safety", "state", "task", "gold", "disagreed", "page")
"""What an address may say; `gold` and `disagreed` are on with the value 1."""
REASONS = ("judged against the guidelines", "judged without reading", "the prompt breaks the rules", "the answers cannot be compared")
"""Offered while typing: the same words count together."""
HIGHEST = 10**8


async def show(request: Request) -> Response:
    """GET /review/CAMPAIGN."""
    return await _review(request, await signed_in(request, "reviewer"), request.query_params)


async def set_aside(request: Request) -> Response:
    """POST /review/CAMPAIGN/set-aside: task, annotator, revision, reason, key; `back` is the query of the page."""
    user, fields = await signed_in(request, "reviewer"), await read_form(request)
    reviews = desk_of(request).store.reviews
    return await _change(request, user, fields, lambda seen, key: reviews.set_aside(seen, fields.get("reason", ""), by=user.id, key=key))


async def put_back(request: Request) -> Response:
    """POST /review/CAMPAIGN/put-back: task, annotator, revision, key; `back` is the query of the page."""
    user, fields = await signed_in(request, "reviewer"), await read_form(request)
    reviews = desk_of(request).store.reviews
    return await _change(request, user, fields, lambda seen, key: reviews.put_back(seen, by=user.id, key=key))


async def _change(request: Request, user: User, fields: Mapping[str, str], work: Callable[[Seen, str], None]) -> Response:
    seen = Seen(
        campaign=request.path_params["campaign"],
        task=_number(fields, "task") or 0,
        annotator=fields.get("annotator", ""),
        revision=_number(fields, "revision") or 0,
    )
    query = {name: fields[f"back_{name}"] for name in NAMES if fields.get(f"back_{name}")}
    try:
        await run_in_threadpool(work, seen, fields.get("key", ""))
    except Refused as refused:
        return await _review(request, user, query, status=409, error=str(refused))
    return RedirectResponse(f"/review/{seen.campaign}?{urlencode(query)}#{_place(seen.task, seen.annotator)}", 303)


async def _review(request: Request, user: User, query: Mapping[str, str], *, status: int = 200, error: str = "") -> Response:
    desk, campaign = desk_of(request), request.path_params["campaign"]
    asked = {name: query[name] for name in NAMES if query.get(name)}
    filters, number, wanted = _filters(asked), _number(asked, "round"), max(1, _number(asked, "page") or 1)
    values = await run_in_threadpool(_read, desk, campaign, filters, number, wanted)
    pages = max(1, -(-values["found"].total // PAGE_SIZE))
    if wanted > pages:  # what the last page showed was set aside, and the filters no longer keep it
        wanted = pages
        values = await run_in_threadpool(_read, desk, campaign, filters, number, wanted)
    steps = {name: _query(asked, page=str(wanted + step)) for name, step in (("earlier", -1), ("later", 1)) if 1 <= wanted + step <= pages}
    keys = [secrets.token_hex(12) for _ in values["found"].judgements]
    known: dict[str, Any] = {"levels": LEVELS, "labels": SAFETY_LABELS, "states": STATES, "reasons": REASONS, "place": _place}
    state: dict[str, Any] = {"error": error, "asked": asked, "filters": filters, "number": wanted, "pages": pages, "steps": steps, "keys": keys}
    return page(request, "review", user=user, status=status, **known, **state, **values)


def _read(desk: Desk, campaign: str, filters: Filters, number: int | None, wanted: int) -> dict[str, Any]:
    return {
        "campaign": desk.store.campaigns.config(campaign),
        "rounds": desk.store.rounds.rounds(campaign),
        "found": desk.store.reviews.page(campaign, filters, round_number=number, page=wanted),
    }


def _filters(asked: Mapping[str, str]) -> Filters:
    return Filters(
        annotator=asked.get("annotator", ""),
        rating=_one_of(asked, "rating", LEVELS),
        safety=_one_of(asked, "safety", SAFETY_LABELS),
        state=_one_of(asked, "state", STATES),
        task=_number(asked, "task"),
        gold_failed=asked.get("gold") == "1",
        disagreed=asked.get("disagreed") == "1",
    )


def _one_of(asked: Mapping[str, str], name: str, known: Sequence[T]) -> T | None:
    found = asked.get(name)
    if found is None:
        return None
    for one in known:
        if one == found:
            return one
    raise Refused("bad request", f"{name}: found {found!r}, accepted: {', '.join(map(str, known))}")


def _number(asked: Mapping[str, str], name: str) -> int | None:
    found = asked.get(name)
    if found is None:
        return None
    if not (found.isascii() and found.isdigit() and int(found[:12]) <= HIGHEST):
        raise Refused("bad request", f"{name}: found {found[:40]!r}, expected a number up to {HIGHEST:,}")
    return int(found)


def _query(asked: Mapping[str, str], **changes: str) -> str:
    return urlencode({**asked, **changes})


def _place(task: int, annotator: str) -> str:
    return f"j-{task}-{annotator}"


ROUTES = [
    Route("/review/{campaign}", show),
    Route("/review/{campaign}/set-aside", set_aside, methods=["POST"]),
    Route("/review/{campaign}/put-back", put_back, methods=["POST"]),
]
