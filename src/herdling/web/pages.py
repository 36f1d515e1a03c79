"""Templates to HTML: every value is escaped, an unknown name is an error, and guidelines are Markdown without raw HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from herdling.base.units import format_seconds
from herdling.preference.accounts import ROLES, User
from herdling.web.desk import page_token


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("herdling.web", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"day": day, "percent": percent, "seconds": format_seconds, "markdown": markdown}
    return environment


def page(request: Request, template: str, /, *, user: User | None = None, csrf: str | None = None, status: int = 200, **values: Any) -> HTMLResponse:
    """Render `pages/TEMPLATE.html.jinja`. `user` is who reads it, `csrf` the token of its forms (that of the session if not given)."""
    may = [] if user is None else ROLES[: ROLES.index(user.role) + 1]
    text = _environment().get_template(f"{template}.html.jinja").render(user=user, may=may, csrf=csrf or page_token(request), **values)
    return HTMLResponse(text, status)


@lru_cache(maxsize=64)
def markdown(text: str) -> Markup:
    """Render Markdown; HTML in it is shown as it was typed, and links lead to http(s) or mail only."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))


def day(seconds: float | None) -> str:
    """Write seconds since the epoch as day and time."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def percent(share: float | None) -> str:
    """Write a share as a percentage."""
    return "–" if share is None else f"{100 * share:.0f} %"
