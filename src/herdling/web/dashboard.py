"""The numbers of a campaign, for reviewers and admins, and closing a round."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from herdling.base.errors import DataError, LineageError, Refused
from herdling.preference.accounts import User
from herdling.report.chart import Interval, bar_chart, interval_chart
from herdling.web.desk import desk_of, read_form, signed_in
from herdling.web.pages import page


async def show(request: Request) -> Response:
    """GET /dashboard/CAMPAIGN."""
    return await _dashboard(request, await signed_in(request, "reviewer"))


async def close_round(request: Request) -> Response:
    """POST /dashboard/CAMPAIGN/close: freeze the open round. `number` has to be that of the round which the admin saw: a second click closes nothing more."""
    user, fields = await signed_in(request, "admin"), await read_form(request)
    desk, campaign = desk_of(request), request.path_params["campaign"]
    if not fields.get("number", "").isdigit():
        raise Refused("bad request", "the round to close has no number")
    try:
        artifact = await run_in_threadpool(desk.store.rounds.close, campaign, desk.rounds, number=int(fields["number"]))
    except (DataError, LineageError) as error:
        return await _dashboard(request, user, status=409, error=str(error))
    return await _dashboard(request, user, done=f"Round {artifact.folder.name} is frozen in {artifact.folder} ({artifact.fingerprint[:12]}).")


async def _dashboard(request: Request, user: User, *, status: int = 200, error: str = "", done: str = "") -> Response:
    desk, campaign = desk_of(request), request.path_params["campaign"]

    def read() -> dict[str, Any]:
        return {
            "campaign": desk.store.campaigns.config(campaign),
            "rounds": desk.store.rounds.rounds(campaign),
            "waiting": desk.store.campaigns.num_waiting(campaign),
            "numbers": desk.store.dashboard.numbers(campaign),
        }

    values = await run_in_threadpool(read)
    if user.role != "admin":  # who reviews knows people by their pseudonyms only
        values["numbers"]["annotators"] = [{**one, "name": one["pseudonym"]} for one in values["numbers"]["annotators"]]
    values["charts"] = [(title, Markup(picture)) for title, picture in charts(values["numbers"])]  # drawn as an XML tree: every text in it is escaped
    problems = list(reversed(desk.sampler.problems)) if user.role == "admin" else []
    return page(request, "dashboard", user=user, status=status, error=error, done=done, problems=problems, **values)


def charts(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (title, SVG) of what is easier seen than read: the levels, how far each annotator can be trusted, fairness to left and right."""
    levels = numbers["campaign"]["levels"]
    drawn = [("How much better", bar_chart([(level, float(count), f"{count:,}") for level, count in levels.items()], "How much better"))]
    questions = {"with_others": "agrees with others", "gold": "with known answers", "repeats": "with own repeats"}
    trust = [(one["name"], [_interval(words, one[part]) for part, words in questions.items() if one[part]["total"]]) for one in numbers["annotators"]]
    trust = [(name, intervals) for name, intervals in trust if intervals]
    if trust:
        drawn.append(("Same answer as …, with 95 % interval", interval_chart(trust, "Agreement of each annotator")))
    sides = [_interval(one["name"], one["left"]) for one in numbers["annotators"]]
    drawn.append(("Chose the left side, with 95 % interval: 50 % is fair", interval_chart([("", sides)], "Share of left choices")))
    return drawn


def _interval(label: str, part: dict[str, Any]) -> Interval:
    return Interval(label=label, value=part["share"], low=part["low"], high=part["high"])


ROUTES = [Route("/dashboard/{campaign}", show), Route("/dashboard/{campaign}/close", close_round, methods=["POST"])]
