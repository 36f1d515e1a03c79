"""A policy that is being trained, sampled by a server: each version of its weights is written to a folder that both see, and every answer says whose it is.

PPO needs token ids, their log-probabilities and the version of the weights that drew them; OpenAI's API has no common way to tell all three. So this
speaks SGLang's: `POST /update_weights_from_disk` with `model_path` and `weight_version`, then `POST /generate` with `input_ids`. An answer of another version
is refused: a server that was started anew has the weights of its start. Costs the policy on disk twice (the new one before the old one goes) and a request
for `AT_ONCE` prompts. Needs httpx (extra `serve`). Tested against a small server that speaks so, not yet against SGLang itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from herdling.base.artifact import remove
from herdling.base.errors import LineageError, RemoteError
from herdling.generate.engine import Answer, Request
from herdling.generate.generator import PolicyServerConfig
from herdling.generate.remote import NUM_AT_ONCE, Client
from herdling.types import StopReason

AT_ONCE = 64
"""Prompts in a request. Not a setting: another batch may round a logit otherwise."""


class PolicyServer:
    """Samples by a server that always has the weights of this moment: `save` writes them into a folder, `version` names them."""

    def __init__(self, config: PolicyServerConfig, *, save: Callable[[Path], None], version: Callable[[], str], stop_ids: Mapping[int, StopReason]) -> None:
        self.folder = Path(config.weights).absolute()
        self.url = config.server.url.rstrip("/")
        self._save, self._version, self._stop_ids = save, version, stop_ids
        self._client = Client(config.server.api_key(), config.server.timeout_seconds)
        self._loaded = ""

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer all requests with the weights of this moment, in their order.

        Raises:
            RemoteError: the server does not answer, cannot load the weights, or leaves out what PPO needs.
            LineageError: an answer came from other weights.
        """
        version = self._version()
        if version != self._loaded:
            self._publish(version)
        chunks = [requests[start : start + AT_ONCE] for start in range(0, len(requests), AT_ONCE)]
        with ThreadPoolExecutor(max_workers=NUM_AT_ONCE) as pool:
            return [answer for answers in pool.map(lambda chunk: self._ask(chunk, version), chunks) for answer in answers]

    def forget(self) -> None:
        """Remove all versions of the weights."""
        for path in self.folder.glob("policy-*"):
            remove(path)

    def _publish(self, version: str) -> None:
        path, unfinished = self.folder / f"policy-{version[:16]}", self.folder / "policy-unfinished"
        if not path.is_dir():
            remove(unfinished)
            unfinished.mkdir(parents=True)
            self._save(unfinished)
            os.replace(unfinished, path)
        said = self._client.ask("POST", f"{self.url}/update_weights_from_disk", {"model_path": str(path), "weight_version": version})
        if not isinstance(said, dict) or not said.get("success"):
            found = said.get("message", said) if isinstance(said, dict) else said
            raise RemoteError(f"{self.url}: did not load {path}: {found}. Does it see this folder, and serve a model of this shape?")
        self._loaded = version
        for older in self.folder.glob("policy-*"):
            if older != path:
                remove(older)

    def _ask(self, requests: Sequence[Request], version: str) -> list[Answer]:
        body = {
            "input_ids": [list(request.prompt_ids) for request in requests],
            "sampling_params": [self._sampling(request) for request in requests],
            "return_logprob": True,
        }
        said = self._client.ask("POST", f"{self.url}/generate", body)
        if not isinstance(said, list) or len(said) != len(requests):
            raise RemoteError(f"{self.url}/generate: expected {len(requests):,} answers in a list. Is this the address of an SGLang server, without /v1?")
        return [self._answer(request, one, version) for request, one in zip(requests, said, strict=True)]

    def _sampling(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        known = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_new_tokens": sampling.max_tokens, "stop_token_ids": sorted(self._stop_ids)}
        # The server's seeds have 31 bits; ours name a stream and may have more.
        return known | ({} if sampling.seed is None else {"sampling_seed": sampling.seed % 2**31})

    def _answer(self, request: Request, said: Any, version: str) -> Answer:
        try:
            told = said["meta_info"]
            found, reason = told.get("weight_version"), told["finish_reason"]["type"]
            tokens = [(int(token), float(logprob)) for logprob, token, *_ in told["output_token_logprobs"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RemoteError(
                f"{self.url}/generate: an answer without meta_info.output_token_logprobs or finish_reason, which PPO needs. Take a newer SGLang"
            ) from None
        if found != version:
            raise LineageError(
                f"{self.url}: an answer came from the weights {str(found or '(unknown)')[:12]}, expected {version[:12]}: stale, so nothing is learned from it."
                " Was the server started anew? The same command loads the weights again and goes on"
            )
        ended = self._stop_ids.get(tokens[-1][0]) if tokens else None
        if ended is None and reason != "length":
            raise RemoteError(f"{self.url}/generate: an answer ended by {reason!r} without a token that ends a turn. Start it without stop strings of its own")
        return Answer(request, [token for token, _ in tokens], [logprob for _, logprob in tokens], ended or "max_tokens")
