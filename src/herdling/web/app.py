"""The annotation server as one Starlette application: routes, what guards them, and errors as people and the page's script need them.

uvicorn.run(annotation_app(Desk(store=..., sampler=..., rounds=...)))
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from herdling.base.errors import DataError, HerdlingError, Refused
from herdling.web import accounts, annotate, dashboard, review
from herdling.web.desk import Desk
from herdling.web.pages import page
from herdling.web.security import Shield

_STATUS = {
    "unknown campaign": 404,
    "unknown user": 404,
    "unknown round": 404,
    "bad request": 400,
    "draft too long": 413,
    "models busy": 503,
    "model failed": 502,
}


def annotation_app(desk: Desk) -> ASGIApp:
    """Return the application that serves a desk."""
    static = StaticFiles(directory=Path(str(files("herdling.web") / "static")))
    app = Starlette(
        routes=[Route("/health", health), *accounts.ROUTES, *annotate.ROUTES, *dashboard.ROUTES, *review.ROUTES, Mount("/static", static)],
        exception_handlers={HTTPException: http_error, HerdlingError: our_error, Exception: unforeseen},
    )
    app.state.desk = desk
    return Shield(app)  # outermost, so that an answer to an unforeseen fault has the headers too


async def health(request: Request) -> Response:
    """GET /health: the server is up."""
    return PlainTextResponse("ok")


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what Starlette or a check refused: to the script as JSON, to people as a page; without a session, with the way to one."""
    assert isinstance(error, HTTPException)
    if error.status_code == 401 and not _is_script(request):
        return RedirectResponse("/login", 303)
    return _answer(request, error.status_code, "not logged in" if error.status_code == 401 else "", error.detail)


async def our_error(request: Request, error: Exception) -> Response:
    """Answer what the store or a check of ours refused, with its reason. What is no fault of the request is 503: the script tries again."""
    if isinstance(error, Refused):
        return _answer(request, _STATUS.get(error.reason, 409), error.reason, _capital(str(error)))
    if isinstance(error, DataError):
        return _answer(request, 400, str(error).partition(":")[0], _capital(str(error)))
    return _answer(request, 503, "server", "The server cannot do this now. It is tried again; what you typed is kept.")


async def unforeseen(request: Request, error: Exception) -> Response:
    """Answer a fault of ours without its inner parts; Starlette logs the traceback."""
    return _answer(request, 500, "server", "Something went wrong on the server. It is tried again; what you typed is kept.")


def _answer(request: Request, status: int, reason: str, message: str) -> Response:
    if _is_script(request):
        return JSONResponse({"reason": reason, "message": message}, status)
    return page(request, "error", status=status, title={403: "Not for you", 404: "There is no such page"}.get(status, "That did not work"), message=message)


def _is_script(request: Request) -> bool:
    return request.method == "POST" and request.url.path.startswith("/annotate/")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
