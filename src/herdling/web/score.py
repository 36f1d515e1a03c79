"""`POST /v1/score`: scores of a reward model over HTTP, requests and errors shaped as in OpenAI's API.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}      -> {"object": "score", "model": "...", "scores": [1.25]}
    {"prompt": [{"role": "user", "content": "..."}], "responses": ["...", "..."]}                    -> one score a response; the prompt is computed once

A request may name the `model`, which must be the one that is served. One forward runs at a time, in a thread: the model has all cores. Nobody is asked who they
are: listen on an address that only trusted programs reach.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from herdling.base.errors import DataError, FormatError
from herdling.generate.loaded import LoadedModel
from herdling.types import Dialog, Message

MAX_BODY_BYTES = 4 * 2**20
MAX_RESPONSES = 256
ROLES = ("system", "user", "assistant", "tool")


class RequestError(Exception):
    """A request that cannot be answered, in the words and with the fields of OpenAI's error object."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


def score_app(model: LoadedModel, name: str) -> Starlette:
    """Return the application that scores with a model, called `name`. Raises `ModelError` when the model has no score head."""
    model.reward_model  # noqa: B018 (asks for the head now, not at the first request)
    lock = threading.Lock()

    def score(dialogs: list[Dialog]) -> list[float]:
        with lock:
            return model.score_batch(dialogs)

    async def answer(request: Request) -> Response:
        body = await read_body(request)
        if body.get("model", name) != name:
            raise RequestError(f"the model {body['model']!r} is not served here; this is {name!r}", param="model", code="model_not_found", status=404)
        dialogs = dialogs_of(body)
        try:
            scores = await run_in_threadpool(score, dialogs)
        except (DataError, FormatError) as error:
            raise RequestError(str(error), param="messages" if "messages" in body else "responses") from None
        return JSONResponse({"object": "score", "model": name, "scores": scores})

    handlers: Mapping[Any, Any] = {RequestError: _refuse, HTTPException: _refuse_http, Exception: _fail}
    return Starlette(routes=[Route("/v1/score", answer, methods=["POST"])], exception_handlers=handlers)


async def read_body(request: Request) -> dict[str, Any]:
    """Read a request's JSON object, of at most `MAX_BODY_BYTES`."""
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise RequestError(f"the request is larger than {MAX_BODY_BYTES // 2**20} MiB; send fewer responses at a time", status=413)
    except ClientDisconnect:
        raise RequestError("the request ended early") from None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is no JSON ({type(error).__name__})") from None
    if not isinstance(body, dict):
        raise RequestError(f"the request is a JSON {type(body).__name__}, expected an object with messages, or with prompt and responses")
    return body


def dialogs_of(body: Mapping[str, Any]) -> list[Dialog]:
    """Return the dialogs that a request asks to score, one a response.

    Raises:
        RequestError: fields that are missing, unknown or of another type, by name.
    """
    unknown = sorted(body.keys() - {"model", "messages", "prompt", "responses"})
    if unknown:
        raise RequestError(f"unknown field {unknown[0]!r}; accepted: model, messages, prompt, responses", param=unknown[0])
    if "messages" in body and not {"prompt", "responses"} & body.keys():
        return [Dialog(id="messages", messages=_messages(body["messages"], "messages"))]
    if "messages" in body or not {"prompt", "responses"} <= body.keys():
        raise RequestError("expected messages alone, or prompt and responses together; found " + (", ".join(sorted(body)) or "none of them"))
    prompt, responses = _messages(body["prompt"], "prompt"), body["responses"]
    if not isinstance(responses, list) or not 1 <= len(responses) <= MAX_RESPONSES:
        found = f"{len(responses):,} of them" if isinstance(responses, list) else type(responses).__name__
        raise RequestError(f"responses: found {found}, expected a list of 1 to {MAX_RESPONSES} texts", param="responses")
    for number, text in enumerate(responses):
        if not isinstance(text, str):
            raise RequestError(f"responses[{number}]: found {type(text).__name__}, expected text", param=f"responses[{number}]")
    return [Dialog(id=f"responses[{number}]", messages=(*prompt, Message(role="assistant", content=text))) for number, text in enumerate(responses)]


def _messages(found: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        raise RequestError(f"{where}: found {'an empty list' if found == [] else type(found).__name__}, expected a list of messages", param=where)
    return tuple(_message(one, f"{where}[{number}]") for number, one in enumerate(found))


def _message(found: Any, where: str) -> Message:
    if not isinstance(found, dict) or found.keys() != {"role", "content"}:
        raise RequestError(f'{where}: expected {{"role": ..., "content": ...}}', param=where)
    if found["role"] not in ROLES:
        raise RequestError(f"{where}.role: found {found['role']!r}, accepted: {', '.join(ROLES)}", param=f"{where}.role")
    if not isinstance(found["content"], str):
        raise RequestError(f"{where}.content: found {type(found['content']).__name__}, expected text", param=f"{where}.content")
    return Message(role=found["role"], content=found["content"])


def _error(message: str, *, status: int, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status_code=status)


def _refuse(_: Request, error: RequestError) -> Response:
    return _error(error.message, status=error.status, param=error.param, code=error.code)


def _refuse_http(request: Request, error: HTTPException) -> Response:
    return _error(f"{request.method} {request.url.path}: {error.detail}; this server answers POST /v1/score", status=error.status_code)


def _fail(_: Request, error: Exception) -> Response:
    return _error(f"the server failed ({type(error).__name__}); its log tells more", status=500, kind="server_error")
