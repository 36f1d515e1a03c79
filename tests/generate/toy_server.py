"""A small real chat server on loopback, and a way to run any Starlette app for the length of a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app on a free port of loopback; give its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class ToyServer:
    """Answers in capitals what it was asked, after the failures that it is told to have first. Keeps every request."""

    def __init__(self, *models: str) -> None:
        self.models = models or ("toy",)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.failures: list[Response] = []
        self.content: Any = None
        self.finish_reason = "stop"
        self.most_choices = 100
        """A server that knows no `n` gives one."""
        self.told: dict[str, Any] = {}
        """What each answer says beside its choices."""
        self.app = Starlette(routes=[Route("/v1/models", self.list_models), Route("/v1/chat/completions", self.chat, methods=["POST"])])

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        self.headers.append(dict(request.headers))
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "created": 1, "owned_by": "toy"} for name in self.models]})

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self.failures:
            return self.failures.pop(0)
        content = body["messages"][-1]["content"].upper() if self.content is None else self.content
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": self.finish_reason}
        choices = [{"index": index, **choice} for index in range(min(self.most_choices, body.get("n", 1)))]
        return JSONResponse({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices, **self.told})


def refusal(status: int, message: str = "not now", **headers: str) -> Response:
    """An error in OpenAI's form."""
    error = {"message": message, "type": "error", "param": None, "code": None}
    return JSONResponse({"error": error}, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def plain_refusal(status: int) -> Response:
    """An error of a proxy before the server."""
    return PlainTextResponse("<html>bad gateway</html>", status)
