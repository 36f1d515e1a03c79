"""A small real server that speaks as SGLang does where PPO asks it: loads weights from a folder, and answers in ids with our own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from herdling.generate.engine import Answer, Engine, Request
from herdling.generate.loaded import load
from herdling.types import Sampling


class ToyPolicyServer:
    """Has no weights until it is given some. `failures` are answered first; `says` is laid over what it tells of each answer."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.version = "default"
        self.loaded: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.num_asked = 0
        self.failures: list[Response] = []
        self.says: dict[str, Any] = {}
        routes = [Route("/update_weights_from_disk", self.update, methods=["POST"]), Route("/generate", self.generate, methods=["POST"])]
        self.app = Starlette(routes=routes)

    async def update(self, request: HttpRequest) -> Response:
        """POST /update_weights_from_disk."""
        body = await request.json()
        if not (Path(body["model_path"]) / "config.json").is_file():
            return JSONResponse({"success": False, "message": "no such model"}, 400)
        model = load(body["model_path"])
        self.engine = Engine(model.model, model.tokenizer, model.engine.stop_ids, max_rows=64)
        self.version = body["weight_version"]
        self.loaded.append(self.version)
        return JSONResponse({"success": True, "message": "Succeeded to update model weights."})

    async def generate(self, request: HttpRequest) -> Response:
        """POST /generate."""
        body = await request.json()
        self.headers.append(dict(request.headers))
        self.num_asked += 1
        if self.failures:
            return self.failures.pop(0)
        assert self.engine is not None
        asked = [Request(ids, _sampling(told)) for ids, told in zip(body["input_ids"], body["sampling_params"], strict=True)]
        return JSONResponse([self._told(answer) for answer in self.engine.generate(asked, logprobs=body["return_logprob"])])

    def _told(self, answer: Answer) -> dict[str, Any]:
        reason = (
            {"type": "length", "length": len(answer.token_ids)} if answer.stop_reason == "max_tokens" else {"type": "stop", "matched": answer.token_ids[-1]}
        )
        logprobs = [[logprob, token, None] for logprob, token in zip(answer.logprobs, answer.token_ids, strict=True)]
        told = {"id": "1", "finish_reason": reason, "weight_version": self.version, "output_token_logprobs": logprobs, **self.says}
        return {"text": "", "output_ids": answer.token_ids, "meta_info": told}


def _sampling(told: dict[str, Any]) -> Sampling:
    return Sampling(temperature=told["temperature"], top_p=told["top_p"], max_tokens=told["max_new_tokens"], seed=told["sampling_seed"])
