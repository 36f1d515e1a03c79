"""The annotator's page and the JSON behind it: take or write a prompt, see two answers, judge, edit, go on, skip, undo.

What leaves here never tells which model answered, how hot, on which side by chance, or anything of other annotators: `_shown` names each field that does. Every
change carries a key of the page's making, so that the page may send it again after a lost reply or a restart. Hidden gold and repeated items
take as long to appear as sampled ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from herdling.base.decode import settings
from herdling.base.errors import Refused
from herdling.preference.accounts import User
from herdling.preference.campaign import CampaignConfig
from herdling.preference.judgements import Done, Judgement
from herdling.preference.leases import Assignment, Draw
from herdling.preference.rating import SafetyLabel, choice_of_key, key_of_choice
from herdling.types import Sampling
from herdling.web.desk import Desk, desk_of, read_json, signed_in
from herdling.web.pages import page

MAX_TRIES = 4
"""How often two answers are sampled until they differ."""
LONGEST_BLIND_WAIT_SECONDS = 20.0
MAX_HISTORY = 20


@settings
class Nothing:
    """A request that says nothing but where it goes."""


@settings
class Text:
    """A message of the annotator's own; `task` names the judged task that it goes on from."""

    text: str
    key: str
    task: int | None = None


@settings
class Held:
    """A task that the annotator holds."""

    task: int
    lease: str


@settings
class DraftOf:
    """What the page holds of a task."""

    task: int
    lease: str
    draft: dict[str, Any]


@settings
class Skip:
    """Pass a task on."""

    task: int
    lease: str
    reason: str
    key: str


@settings
class Choice:
    """A judgement. `choice` is a key of the scale, 1 (left significantly better) to 8 (right significantly better)."""

    task: int
    lease: str
    key: str
    choice: int
    safety: SafetyLabel | None = None
    edit: str | None = None
    edit_safe: bool | None = None
    seconds: float | None = None


@settings
class Undo:
    """Take a judgement back."""

    task: int
    key: str


async def home(request: Request) -> Response:
    """GET /: the campaigns."""
    user = await signed_in(request)
    desk = desk_of(request)

    def listed() -> list[CampaignConfig]:
        return [desk.store.campaigns.config(name) for name in desk.store.campaigns.names()]

    return page(request, "home", user=user, campaigns=await run_in_threadpool(listed))


async def annotate(request: Request) -> Response:
    """GET /annotate/CAMPAIGN: the page itself, which then asks for its task."""
    user = await signed_in(request)
    return page(request, "annotate", user=user, campaign=await _config(request))


async def start(request: Request) -> Response:
    """POST .../start: what this annotator did in the open round, newest first, and how many there are."""
    user, _ = await signed_in(request), await read_json(request, Nothing)
    judgements, campaign = desk_of(request).store.judgements, request.path_params["campaign"]

    def begun() -> dict[str, Any]:
        lines = [_line(one) for one in judgements.history(campaign, user.id, limit=MAX_HISTORY)]
        return {"num_judged": judgements.count(campaign, user.id), "history": lines}

    return JSONResponse(await run_in_threadpool(begun))


async def next_task(request: Request) -> Response:
    """POST .../next: the task to do now, or none."""
    user, _ = await signed_in(request), await read_json(request, Nothing)
    held = await run_in_threadpool(desk_of(request).store.tasks.next, request.path_params["campaign"], user.id)
    return JSONResponse({"task": None if held is None else _shown(held)})


async def write_prompt(request: Request) -> Response:
    """POST .../prompt: begin a dialog, or go on with one."""
    user, asked = await signed_in(request), await read_json(request, Text)
    tasks, campaign = desk_of(request).store.tasks, request.path_params["campaign"]
    if asked.task is None:
        held = await run_in_threadpool(tasks.write_prompt, campaign, user.id, asked.text, key=asked.key)
    else:
        held = await run_in_threadpool(tasks.proceed, asked.task, user.id, asked.text, key=asked.key)
    return JSONResponse({"task": _shown(held)})


async def answers(request: Request) -> Response:
    """POST .../answers: the two answers to a held task, sampled now where there are none yet."""
    user, asked = await signed_in(request), await read_json(request, Held)
    desk, campaign = desk_of(request), request.path_params["campaign"]
    try:
        held = await run_in_threadpool(desk.store.tasks.look, campaign, asked.task, user.id, asked.lease)
    except Refused as refused:
        if refused.reason not in ("already judged", "unknown task"):
            raise
        raise Refused("stale lease", "this task is no longer yours. Take the next one; what you typed is kept") from None
    if held.responses is None:
        held = await _sample(desk, await _config(request), user, held)
    elif not held.draft:  # seen for the first time: a hidden item must not show itself by its speed
        await asyncio.sleep(min(desk.sampler.usual_seconds, LONGEST_BLIND_WAIT_SECONDS))
    left, right = held.responses or ("", "")
    return JSONResponse({"left": left, "right": right})


async def judge(request: Request) -> Response:
    """POST .../judge: store a judgement, once."""
    user, asked = await signed_in(request), await read_json(request, Choice)
    side, rating = choice_of_key(asked.choice)
    said = Judgement(side=side, rating=rating, safety=asked.safety, edit=asked.edit, edit_safe=asked.edit_safe)
    submit = desk_of(request).store.judgements.submit
    stored = await run_in_threadpool(submit, asked.task, user.id, asked.lease, said, key=asked.key, seconds=asked.seconds)
    return JSONResponse({"task": stored.task, "can_proceed": stored.can_proceed})


async def undo(request: Request) -> Response:
    """POST .../undo: take a judgement back and hold its task again."""
    user, asked = await signed_in(request), await read_json(request, Undo)
    held = await run_in_threadpool(desk_of(request).store.judgements.undo, asked.task, user.id, key=asked.key)
    return JSONResponse({"task": _shown(held)})


async def skip(request: Request) -> Response:
    """POST .../skip: pass a task on, with a reason."""
    user, asked = await signed_in(request), await read_json(request, Skip)
    await run_in_threadpool(desk_of(request).store.tasks.skip, asked.task, user.id, asked.lease, asked.reason, key=asked.key)
    return JSONResponse({})


async def save_draft(request: Request) -> Response:
    """POST .../draft: keep what the page holds, and the lease with it."""
    user, asked = await signed_in(request), await read_json(request, DraftOf)
    expires = await run_in_threadpool(desk_of(request).store.tasks.save_draft, asked.task, user.id, asked.lease, asked.draft)
    return JSONResponse({"expires": expires})


async def heartbeat(request: Request) -> Response:
    """POST .../heartbeat: hold on to a task."""
    user, asked = await signed_in(request), await read_json(request, Held)
    expires = await run_in_threadpool(desk_of(request).store.tasks.heartbeat, asked.task, user.id, asked.lease)
    return JSONResponse({"expires": expires})


async def _config(request: Request) -> CampaignConfig:
    return await run_in_threadpool(desk_of(request).store.campaigns.config, request.path_params["campaign"])


async def _sample(desk: Desk, config: CampaignConfig, user: User, held: Assignment) -> Assignment:
    """Sample two answers until they differ, and store them.

    Raises:
        Refused: "equal responses" or "empty response" after `MAX_TRIES`, "stale lease", "round closed", or what `Sampler.pair` says.
    """
    for left in reversed(range(MAX_TRIES)):
        first, second = await desk.sampler.pair(held.dialog, _samplings(config, held.draws))
        try:
            return await run_in_threadpool(desk.store.tasks.fill, held.task, user.id, held.lease, (first, second))
        except Refused as refused:
            if refused.reason not in ("equal responses", "empty response"):
                raise
            if not left:
                advice = f"this happened {MAX_TRIES} times in a row, so there is nothing to compare. Skip this prompt, or write another one"
                raise Refused(refused.reason, advice) from None
        held = await run_in_threadpool(desk.store.tasks.redraw, held.task, user.id, held.lease)
    raise AssertionError("the last try returns or raises")


def _samplings(config: CampaignConfig, draws: tuple[Draw, Draw] | None) -> tuple[tuple[str, Sampling], tuple[str, Sampling]]:
    assert draws is not None  # a task without responses has draws
    first, second = ((draw.model, Sampling(temperature=draw.temperature, seed=draw.seed, max_tokens=config.models[draw.model].max_tokens)) for draw in draws)
    return first, second


def _shown(held: Assignment) -> dict[str, Any]:
    """Return all that the page gets of a task; responses come by `answers`, so that those which were there before look like all others."""
    turns = [{"role": message.role, "text": message.content} for message in held.dialog.messages]
    shown: dict[str, Any] = {"task": held.task, "lease": held.lease, "expires": held.expires, "turn": held.turn, "turns": turns}
    return shown | {"draft": _draft(held.draft)}


def _draft(draft: Mapping[str, Any]) -> dict[str, Any]:
    """Return a draft in the page's words: after an undo it comes in the store's."""
    known = dict(draft)
    side, rating = known.pop("side", None), known.pop("rating", None)
    if side is not None and rating is not None:
        known["choice"] = key_of_choice(side, rating)
    return {name: value for name, value in known.items() if value is not None}


def _line(done: Done) -> dict[str, Any]:
    said = done.judgement
    return {
        "task": done.task,
        "prompt": done.prompt[:200],
        "choice": key_of_choice(said.side, said.rating),
        "edited": said.edit is not None,
        "at": done.at,
        "can_undo": done.can_undo,
    }


_JSON = {
    "start": start,
    "next": next_task,
    "prompt": write_prompt,
    "answers": answers,
    "judge": judge,
    "undo": undo,
    "skip": skip,
    "draft": save_draft,
    "heartbeat": heartbeat,
}
ROUTES = [
    Route("/", home),
    Route("/annotate/{campaign}", annotate),
    *(Route(f"/annotate/{{campaign}}/{name}", handler, methods=["POST"]) for name, handler in _JSON.items()),
]
