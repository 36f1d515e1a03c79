"""What stands before every page: headers, limits of size and rate, and the proof that a change was asked for by our own page.

A change of state needs three things: it comes from this site (`Sec-Fetch-Site`, `Origin`), it carries a token that only a page of this site can read, and,
but for logging in, a session. Cookies are HttpOnly and SameSite=Lax, and Secure wherever the page came by https. The content security policy allows no inline
script or style, no frame and no other site.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable
from threading import Lock
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 256 * 1024
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
_SAFE = ("GET", "HEAD", "OPTIONS")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not no-referrer: that would blank the Origin of our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Shield:
    """ASGI middleware: adds the headers, refuses bodies that are too long and changes that another site asks for."""

    def __init__(self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        read = 0

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        async def receiving() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_body_bytes:
                raise HTTPException(413, _too_long(self.max_body_bytes))  # answered by the application's handler
            return message

        await (self._refusal(scope) or self.app)(scope, receiving, sending)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body_bytes:
            return PlainTextResponse(_too_long(self.max_body_bytes), 413, headers={"Connection": "close"})
        if scope["method"] in _SAFE:
            return None
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
        if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("This was asked for by another site. Open the page itself and try again.", 403)
        return None


def _too_long(limit: int) -> str:
    return f"More than {limit // 1024} KiB: too long to be taken."


def csrf_token(cookie: str) -> str:
    """Return the token that belongs to a cookie's value: who can compute it has read the cookie or a page of ours."""
    return hashlib.sha256(f"csrf {cookie}".encode()).hexdigest()


def csrf_holds(cookie: str | None, token: str) -> bool:
    """Say whether a token belongs to a cookie, in constant time."""
    return bool(cookie) and hmac.compare_digest(csrf_token(cookie or "").encode(), token.encode())


def new_cookie_value() -> str:
    """Return a value nobody can guess."""
    return secrets.token_urlsafe(24)


def set_cookie(request: Request, response: Response, name: str, value: str, *, max_age: int | None = None) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send along with a change."""
    response.set_cookie(name, value, max_age=max_age, path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https")


class Throttle:
    """Counts failures of each caller in a sliding window; the store counts those of each account beside it. Forgets everything with the process."""

    def __init__(self, most: int = 20, seconds: float = 900.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.seconds, self._clock = most, seconds, clock
        self._failures: dict[str, deque[float]] = defaultdict(deque)
        self._lock = Lock()

    def blocked(self, caller: str) -> bool:
        """Say whether this caller has failed too often lately."""
        with self._lock:
            return len(self._recent(caller)) >= self.most

    def failed(self, caller: str) -> None:
        """Note a failure."""
        with self._lock:
            self._recent(caller).append(self._clock())

    def _recent(self, caller: str) -> deque[float]:
        if len(self._failures) > 10_000:  # a flood from many addresses must not eat the memory
            self._failures.clear()
        times = self._failures[caller]
        while times and times[0] <= self._clock() - self.seconds:
            times.popleft()
        return times
