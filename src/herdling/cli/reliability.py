"""What `herdling plan --reliability` says: how much of a run's time is useful on GPUs that fail, how long it takes, and what would change that.

Starts without torch, answers in about a second. Without a model it is the pre-training of Llama 3 405B: its table of failures, and pauses and restarts that the
paper does not state, and that are printed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herdling.base.decode import decode, settings
from herdling.base.errors import SettingsError, did_you_mean
from herdling.base.units import format_count, format_seconds, parse_count

if TYPE_CHECKING:
    from rich.console import Console

    from herdling.plan.failures import FailureTable, Rates
    from herdling.plan.goodput_forecast import Forecast, Run

PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0)
TABLES = ("saving", "recovery", "rates", "failures", "forecast")
SPARES_CHANCE, SPARES_DAYS = 0.95, 1.0


@settings
class Wanted:
    """What is asked of the forecast."""

    target: float = 0.9
    """Share of useful time that pauses and restarts are sought for."""
    tokens_per_second: float | None = None
    """Of all GPUs together while nothing is wrong, where it was measured."""


@settings
class Counted:
    """Where the rates of failures come from; with nothing set from Llama 3's table."""

    file: str | None = None
    """A .csv with the columns component, category, count."""
    num_gpus: int | None = None
    """GPUs that the file was counted on."""
    days: float | None = None
    """Days in which it was counted."""
    mtbf_seconds: float | None = None
    """Instead of a file: seconds from one failure of this cluster to the next."""


def forecast_run(
    gpus: int | None, tokens: str | None, tokens_per_second: float | None, overrides: Iterable[str], picture: Path | None = None
) -> tuple[Run, dict[str, Any]]:
    """Return a run (what is None is Llama 3 405B's) and its forecast as plain data; draw it too, where that is asked for."""
    run, target, source = read_run(gpus, tokens, tokens_per_second, overrides)
    if picture:
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_text(draw_intervals(run), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--picture {picture}: cannot be written ({error.strerror or error}). Name another file") from None
    return run, answer_of(run, target) | {"source": source}


def read_run(gpus: int | None, tokens: str | None, tokens_per_second: float | None, overrides: Iterable[str]) -> tuple[Run, float, dict[str, Any]]:
    """Return the run, at the best interval unless one is set, the target of useful time, and where the rates come from."""
    from herdling.plan.goodput_forecast import Run, llama3_run
    from herdling.plan.save_interval import best_saving
    from herdling.plan.saving import Recovery, Saving

    given, default = _tables(overrides), llama3_run()
    num_gpus = default.num_gpus if gpus is None else gpus
    wanted = decode(Wanted, given["forecast"], "forecast")
    table = _table(decode(Counted, given["failures"], "failures"))
    rates = _rates(table, num_gpus, given["rates"])
    recovery = decode(Recovery, {**{name: value for name, value in asdict(default.recovery).items() if value is not None}, **given["recovery"]}, "recovery")
    saving = decode(Saving, {"interval_seconds": 1e5, "pause_seconds": default.saving.pause_seconds, **given["saving"]}, "saving")
    if "interval_seconds" not in given["saving"]:
        saving = best_saving(rates, saving, recovery)
    speed = wanted.tokens_per_second or tokens_per_second or default.tokens_per_second / default.num_gpus * num_gpus
    count = default.tokens if tokens is None else parse_count(tokens, where="--tokens")
    counted = None if isinstance(table, float) else table.count()
    run = Run(num_gpus=num_gpus, tokens=count, tokens_per_second=speed, rates=rates, saving=saving, recovery=recovery, num_counted=counted)
    if isinstance(table, float):
        return run, wanted.target, {"name": "as given"}
    return run, wanted.target, {"name": table.name, "failures": table.count(), "days": table.days, "by": table.by_category()}


def _table(counted: Counted) -> FailureTable | float:
    """Return a table of failures, or the mean time between them."""
    from herdling.plan.failures import LLAMA3, check_amount, read_failures

    if counted.mtbf_seconds is not None:
        if counted.file is not None:
            raise SettingsError("failures.file and failures.mtbf_seconds: found both, and each says how often the cluster fails. Give one of them")
        check_amount("failures.mtbf_seconds", counted.mtbf_seconds, zero=False)
        return counted.mtbf_seconds
    if counted.file is None:
        if counted.num_gpus is not None or counted.days is not None:
            raise SettingsError("failures.num_gpus and failures.days: these belong to a file of counted failures. Add: --set 'failures.file=\"FILE.csv\"'")
        return LLAMA3
    if counted.num_gpus is None or counted.days is None:
        raise SettingsError(f"{counted.file}: on how many GPUs, in how many days? Add: --set failures.num_gpus=N --set failures.days=N")
    return read_failures(Path(counted.file), num_gpus=counted.num_gpus, days=counted.days)


def _rates(table: FailureTable | float, gpus: int, given: dict[str, Any]) -> Rates:
    from herdling.plan.failures import LLAMA3

    if isinstance(table, float):
        rates = LLAMA3.rates(gpus)
        rates = rates.scaled(rates.mean_time_between_failures / table)
    else:
        rates = table.rates(gpus)
    for name, value in given.items():
        if name not in asdict(rates) or not isinstance(value, int | float) or isinstance(value, bool):
            raise SettingsError(f"--set rates.{name}: found {value!r}, accepted: a number of events a second for {', '.join(asdict(rates))}")
    return replace(rates, **given)


def _tables(overrides: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read lines such as `saving.pause_seconds=5` into their tables."""
    found: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    for line in overrides:
        try:
            parsed = tomllib.loads(line)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"--set {line}: {error}; expected a line such as saving.pause_seconds=5") from None
        for name, values in parsed.items():
            if name not in found or not isinstance(values, dict):
                raise SettingsError(f"--set {line}: found {name!r}, accepted: {', '.join(f'{table}.KEY' for table in TABLES)}{did_you_mean(name, TABLES)}")
            found[name].update(values)
    return found


def answer_of(run: Run, target: float) -> dict[str, Any]:
    """Return the forecast as plain data."""
    from herdling.plan.goodput_forecast import COVERAGE, forecast, seconds_of, what_if

    found = forecast(run)
    answer: dict[str, Any] = {
        "run": {name: asdict(run)[name] for name in ("num_gpus", "tokens", "tokens_per_second", "rates", "saving", "recovery")},
        "mean_seconds_between_failures": run.rates.mean_time_between_failures,
        **_shares(found),
        "days": found.seconds / 86400,
        "days_interval": found.interval_days,
        "coverage": COVERAGE,
        "gpu_hours": found.gpu_hours,
        "failures": found.num_failures,
        "what_if": [
            {
                "change": what,
                "efficiency": one.goodput.efficiency,
                "interval_seconds": one.saving.interval_seconds,
                "days": seconds_of(one) / 86400,
                "gpu_hours": seconds_of(one) / 3600 * one.num_gpus,
            }
            for what, one in what_if(run)
        ],
        "target": target,
        "longest_restart": _longest_restarts(run, target),
    }
    return {**answer, "spares": _spares(run, found)} if run.recovery.repair_seconds else answer


def _shares(found: Forecast) -> dict[str, Any]:
    return {"efficiency": found.goodput.efficiency, "simulated_efficiency": found.simulated_efficiency, "shares": found.goodput.shares()}


def _longest_restarts(run: Run, target: float) -> list[dict[str, Any]]:
    """Return for each pause of a save the best interval and the longest restart that reaches the target."""
    from herdling.plan.save_interval import best_saving, longest_restart

    rows = []
    for pause in PAUSES:
        saving = best_saving(run.rates, replace(run.saving, interval_seconds=max(1.0, run.saving.write_seconds), pause_seconds=pause), run.recovery)
        longest = longest_restart(target, run.rates, saving, run.recovery)
        rows.append({"pause_seconds": pause, "interval_seconds": saving.interval_seconds, "restart_seconds": longest})
    return rows


def _spares(run: Run, found: Forecast) -> dict[str, Any]:
    from herdling.base.seeds import stream
    from herdling.plan.spares import spares_for

    generator = stream(0, "goodput", "spares")
    days = found.seconds / 86400
    needed = spares_for(run.rates.server, run.recovery.repair_seconds, days, most_days=SPARES_DAYS, chance=SPARES_CHANCE, generator=generator, num_runs=100)
    return {"servers": needed, "most_days_lost": SPARES_DAYS, "chance": SPARES_CHANCE}


def give_answer(run: Run, answer: dict[str, Any], *, as_json: bool) -> None:
    """Print the forecast of a run by itself, for a program or for a reader."""
    if as_json:
        print(json.dumps({"reliability": answer}, indent=2))
    else:
        print_answer(run, answer)


def _print_run(console: Console, run: Run, answer: dict[str, Any]) -> None:
    (low, high), source = answer["days_interval"], answer["source"]
    console.print(
        f"{answer['efficiency']:.1%} of the time is useful: {format_count(run.tokens)} tokens take {answer['days']:.1f} days ({low:.1f} to {high:.1f}"
        f" in {answer['coverage']:.0%} of runs) and {format_count(answer['gpu_hours'])} GPU-hours"
    )
    copies = f", copies in memory of {run.saving.memory_pause_seconds or 0:g} s, {run.saving.saves_per_write} to one write"
    memory = "" if run.saving.memory_pause_seconds is None else copies
    written = f" and {run.saving.write_seconds:g} s behind training" if run.saving.write_seconds else ""
    console.print(
        f"{run.num_gpus:,} GPUs fail every {format_seconds(answer['mean_seconds_between_failures'])} ({source['name']});"
        f" a save each {format_seconds(run.saving.interval_seconds)}, with a pause of {run.saving.pause_seconds:g} s{written}{memory};"
        f" a restart takes {format_seconds(run.recovery.restart_seconds)}"
    )
    if "by" in source:
        shares = ", ".join(f"{name} {count / source['failures']:.1%}" for name, count in source["by"].items())
        console.print(f"{source['failures']:,} failures in {source['days']:g} days: {shares}")


def print_answer(run: Run, answer: dict[str, Any]) -> None:
    """Print the forecast for a reader."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=not Console().is_terminal)
    _print_run(console, run, answer)
    spent = Table("of elapsed time", "share", title="Where the time goes", title_justify="left")
    for name, share in answer["shares"].items():
        if share:
            spent.add_row(name, f"{share:.2%}")
    console.print(spent)
    changed = Table("change", "useful", "interval", "days", "GPU-hours", title="What if (each at its best interval)", title_justify="left")
    for row in answer["what_if"]:
        changed.add_row(
            row["change"], f"{row['efficiency']:.1%}", format_seconds(row["interval_seconds"]), f"{row['days']:.1f}", format_count(row["gpu_hours"])
        )
    console.print(changed)
    sought = Table("pause of a save", "best interval", "longest restart", title=f"For {answer['target']:.0%} of useful time", title_justify="left")
    for row in answer["longest_restart"]:
        restart = "none is short enough" if row["restart_seconds"] is None else format_seconds(row["restart_seconds"])
        sought.add_row(f"{row['pause_seconds']:g} s", format_seconds(row["interval_seconds"]), restart)
    console.print(sought)
    if "spares" in answer:
        spares = answer["spares"]
        console.print(f"{spares['servers']} spare servers lose at most {spares['most_days_lost']:g} day in {spares['chance']:.0%} of runs")


def draw_intervals(run: Run) -> str:
    """Draw the useful share over the interval of saves: as planned, with half the restart, and with half the failures."""
    from herdling.plan.goodput import goodput
    from herdling.report.chart import line_chart
    from herdling.report.curves import Curve, CurveChart
    from herdling.report.standalone import standalone

    halved = replace(run.recovery, restart_seconds=run.recovery.restart_seconds / 2)
    ways = {
        "as planned": (run.rates, run.recovery),
        "restart in half the time": (run.rates, halved),
        "half the failures": (run.rates.scaled(0.5), run.recovery),
    }
    centre = run.saving.interval_seconds
    least = max(0.1 * centre, run.saving.write_seconds)
    intervals = [least + (4 * centre - least) * step / 80 for step in range(81)] if least < 4 * centre else [centre]
    curves = [
        Curve(label=label, points=[(at, 100 * goodput(rates, replace(run.saving, interval_seconds=at), recovery).efficiency) for at in intervals])
        for label, (rates, recovery) in ways.items()
    ]
    chart = CurveChart(title="Useful time", x_unit="seconds between saves", y_unit="% of elapsed time", curves=curves)
    return standalone(line_chart(chart), [curve.label for curve in curves], top=150)
