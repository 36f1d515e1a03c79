"""An OpenAI-compatible chat server behind the protocol of `generator.py`: vLLM, llama.cpp, SGLang, Ollama or a herdling elsewhere.

Asks `/models` once, then `/chat/completions` for every dialog, several at a time; samples of one dialog that differ in their seeds are one request (`n`), whose
first seed is theirs. What a server says of its weights (`metadata.weight_version` of SGLang, OpenAI's `system_fingerprint`) is part of an answer's fingerprint,
so that a change is seen sample by sample. Tries again, ever more slowly, when a connection fails or the server says that it is busy or broken (408, 409, 429,
5xx), and obeys `Retry-After` and `x-should-retry`. Whatever else goes wrong is one line that says what to do. Does not stream, and reads no log-probabilities;
an answer may be empty, as a local model's may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urldefrag

import httpx

from herdling.base.artifact import value_fingerprint
from herdling.base.errors import LineageError, RemoteError, did_you_mean
from herdling.types import Completion, Dialog, Message, Sampling, StopReason

NUM_TRIES = 4
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0
CONNECT_SECONDS = 5.0
NUM_AT_ONCE = 8
_BUSY = (408, 409, 429)
_STOP_REASONS: dict[str, StopReason] = {"stop": "end_of_turn", "length": "max_tokens"}


class Client:
    """Asks a server for JSON, and again when time may mend what failed. `sleep` waits between tries; tests pass their own clock."""

    def __init__(self, api_key: str | None, timeout_seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        # No connection is kept: there is none to go stale when the server restarts and none to close, and an answer takes longer than a handshake.
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        )
        self._sleep = sleep

    def ask(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that a request is answered with, after a few tries. Raises `RemoteError` with what to do."""
        fault, wait = "", FIRST_WAIT_SECONDS
        for number in range(1, NUM_TRIES + 1):
            try:
                response = self._http.request(method, url, json=body)
            except httpx.TimeoutException:
                fault, asked = "did not answer in time. Is it still loading, or too small for its load?", None
            except httpx.TransportError as error:
                fault, asked = f"cannot be reached ({error or type(error).__name__}). Start it, or correct the address", None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise RemoteError(f"{url}: is no address ({error}). Expected something like http://127.0.0.1:8000/v1") from None
            else:
                if response.is_success:
                    return _json_of(response, url)
                fault, asked = _fault_of(response), _asked_wait(response)
                if not _may_retry(response):
                    raise RemoteError(f"{url}: {fault}")
            if number < NUM_TRIES:
                self._sleep(min(LONGEST_WAIT_SECONDS, wait if asked is None else asked))
                wait *= 2
        raise RemoteError(f"{url}: {fault} (tried {NUM_TRIES} times)")


class RemoteModel:
    """One model of a server. `weight_version` is what it has to say of its weights; None: anything."""

    def __init__(self, name: str, url: str, model: str, *, fingerprint: str, client: Client, weight_version: str | None = None) -> None:
        self.name = name
        self.url = url
        self.model = model
        self.fingerprint = fingerprint
        self.weight_version = weight_version
        self._client = client

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Return the assistant's next message of each dialog.

        Raises:
            RemoteError: the server does not answer, refuses, or answers with something that is no chat completion.
            LineageError: it says that it has other weights than it should.
        """
        each = [sampling] * len(dialogs) if isinstance(sampling, Sampling) else list(sampling)
        asked = _grouped(dialogs, each)
        with ThreadPoolExecutor(max_workers=NUM_AT_ONCE) as pool:
            return [completion for said in pool.map(self._chat, asked) for completion in said]

    def _chat(self, asked: tuple[Dialog, list[Sampling]]) -> list[Completion]:
        """Return a sample for each sampling; a server that gives fewer than it was asked for is asked again for the others."""
        (dialog, samplings), said = asked, list[Completion]()
        while len(said) < len(samplings):
            sampling, count = samplings[len(said)], len(samplings) - len(said)
            answer = self._client.ask("POST", f"{self.url}/chat/completions", request_body(self.model, dialog, sampling, count))
            said += self._completions(answer, sampling)[:count]
        return said

    def _completions(self, answer: Any, sampling: Sampling) -> list[Completion]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices:
            raise self._no_completion()
        version = version_of(answer)
        if self.weight_version not in (None, version):
            raise LineageError(
                f"{self.name}: the server says that its weights are {version or '(nothing)'}, expected {self.weight_version}. Serve that version, and say so"
                " (SGLang: --weight-version), or correct weight_version"
            )
        fingerprint = self.fingerprint if version is None else value_fingerprint({"model": self.fingerprint, "version": version})
        return [self._completion(choice, sampling, fingerprint) for choice in choices]

    def _no_completion(self) -> RemoteError:
        return RemoteError(f"{self.url}: its answer is no chat completion (no choices[0].message). Is this the address of an OpenAI-compatible server?")

    def _completion(self, choice: Any, sampling: Sampling, fingerprint: str) -> Completion:
        try:
            content, calls, reason = choice["message"].get("content"), choice["message"].get("tool_calls"), choice.get("finish_reason") or "stop"
        except (KeyError, TypeError, AttributeError):
            raise self._no_completion() from None
        if reason == "content_filter":
            raise RemoteError(f"{self.name}: the server withheld the answer (content_filter). Ask something else, or switch its filter off")
        if calls or not isinstance(content, str | None):
            raise RemoteError(f"{self.name}: the server sent {'a tool call' if calls else 'content that is no text'}, expected text. Switch its tools off")
        return Completion(
            message=Message(role="assistant", content=(content or "").strip()),
            stop_reason=_STOP_REASONS.get(reason, "end_of_turn"),
            model=self.name,
            model_fingerprint=fingerprint,
            sampling=sampling,
        )


def connect(
    name: str,
    address: str,
    *,
    api_key: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout_seconds: float = 120.0,
    weight_version: str | None = None,
) -> RemoteModel:
    """Return the model at `http://host:port/v1#model`. The part after # may be left out where the server has one model only.

    Its fingerprint is that of the address and of all that the server lists about the model: a server cannot be asked for a digest of its weights.

    Raises:
        RemoteError: the server does not answer, has no such model, or several and none was named.
    """
    url, wanted = urldefrag(address)
    url = url.rstrip("/")
    client = Client(api_key, timeout_seconds, sleep)
    listed = client.ask("GET", f"{url}/models")
    try:
        models: dict[str, Any] = {model["id"]: model for model in listed["data"]}
    except (KeyError, TypeError):
        raise RemoteError(f"{url}/models: is no list of models. The address of a server ends with /v1 as a rule: {url}/v1") from None
    if not wanted and len(models) != 1:
        raise RemoteError(f"{url}: has {len(models)} models. Name one: {url}#{next(iter(models), 'model')}. It has: {', '.join(models) or 'none'}")
    wanted = wanted or next(iter(models))
    if wanted not in models:
        raise RemoteError(f"{url}: has no model {wanted!r}{did_you_mean(wanted, models)}. It has: {', '.join(models) or 'none'}")
    known = {key: value for key, value in models[wanted].items() if key not in ("created", "permission")}  # these change with each start of vLLM
    return RemoteModel(name, url, wanted, fingerprint=value_fingerprint({"url": url, "model": known}), client=client, weight_version=weight_version)


def version_of(answer: Any) -> str | None:
    """Return what a server says of the weights that gave this answer; None where it says nothing."""
    metadata = answer.get("metadata")
    version = (metadata.get("weight_version") if isinstance(metadata, dict) else None) or answer.get("system_fingerprint")
    return None if version is None else str(version)


def _grouped(dialogs: Sequence[Dialog], samplings: Sequence[Sampling]) -> list[tuple[Dialog, list[Sampling]]]:
    """Put samples together that stand side by side and differ in their seeds alone. Greedy ones stay apart: servers refuse several of what are equal."""
    groups: list[tuple[Dialog, list[Sampling]]] = []
    for dialog, sampling in zip(dialogs, samplings, strict=True):
        if groups and sampling.temperature > 0 and groups[-1][0] == dialog and replace(groups[-1][1][0], seed=sampling.seed) == sampling:
            groups[-1][1].append(sampling)
        else:
            groups.append((dialog, [sampling]))
    return groups


def request_body(model: str, dialog: Dialog, sampling: Sampling, count: int = 1) -> dict[str, Any]:
    """Return the JSON of a request for so many samples. What is off is left out: servers refuse fields that they do not know, and `top_k` is not OpenAI's."""
    messages = [{"role": message.role, "content": message.content} for message in dialog.messages]
    body = {
        "model": model,
        "messages": messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stream": False,
    }
    optional = {"n": count if count > 1 else None, "seed": sampling.seed, "top_k": sampling.top_k or None, "stop": list(sampling.stop) or None}
    return body | {key: value for key, value in optional.items() if value is not None}


def _json_of(response: httpx.Response, url: str) -> Any:
    try:
        return response.json()
    except ValueError:
        raise RemoteError(
            f"{url}: answered with {response.headers.get('content-type', 'something')}, expected JSON. Is this an OpenAI-compatible server?"
        ) from None


def _may_retry(response: httpx.Response) -> bool:
    wish = response.headers.get("x-should-retry")
    return wish == "true" if wish in ("true", "false") else response.status_code in _BUSY or response.status_code >= 500


def _asked_wait(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):  # absent, or a date
        return None


def _fault_of(response: httpx.Response) -> str:
    """Say what a status means, with the server's own words (both forms of error bodies that are in use)."""
    try:
        body = response.json()
        error = body.get("error", body) if isinstance(body, dict) else body
        said = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except ValueError:
        said = response.text
    said = " ".join(said.split())[:300] or response.reason_phrase
    todo = {401: "Give its key in HERDLING_API_KEY", 403: "Give a key that may do this in HERDLING_API_KEY", 404: "Check the address and the model's name"}
    advice = todo.get(response.status_code, "It is overloaded: wait, or use fewer annotators at once" if response.status_code == 429 else "")
    return f"refused with {response.status_code}: {said}" + (f". {advice}" if advice else "")
