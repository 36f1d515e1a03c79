"""The simulator of a failing run against its closed form over a grid of tiers, pauses, restarts and rates. Prints one JSON line.

    python benchmarks/goodput.py [--days 4000] [--failures FILE.csv --num-gpus 16384 --in-days 54] [--write FILE] [--picture FILE.svg]

For each case: the useful share of a played run of so many useful days, and of the formula. Beside it, for Llama 3's failures (or a table with the columns
component, category, count), the pauses and the longest restarts at which more than 90 % of the time is useful, and what a forecast takes in seconds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from machine import machine_facts
from result import give_result

from herdling.base.seeds import stream
from herdling.cli.reliability import draw_intervals
from herdling.plan.failures import LLAMA3, FailureTable, Rates, read_failures
from herdling.plan.goodput import goodput, split_rates
from herdling.plan.goodput_forecast import forecast, llama3_run, what_if
from herdling.plan.goodput_simulation import simulate
from herdling.plan.save_interval import best_saving, exact_interval, longest_restart
from herdling.plan.saving import Recovery, Saving

DAY = 86400.0
PAUSES, RESTARTS = (1.0, 5.0, 30.0, 120.0), (120.0, 300.0, 600.0, 1200.0)
Case = tuple[str, Rates, Saving, Recovery]


def grid(table: FailureTable) -> list[Case]:
    """Return the cases: one tier at each pause, restart and rate, and each other cause at two strengths, most of them at their best interval."""
    cases: list[Case] = []
    for factor, pause, restart in product((0.1, 1.0, 3.0), PAUSES, RESTARTS):
        rates = table.rates(table.num_gpus).scaled(factor)
        saving = Saving(interval_seconds=exact_interval(pause, rates.mean_time_between_failures), pause_seconds=pause)
        cases.append(("sync", rates, saving, Recovery(restart_seconds=restart)))
    rates = table.rates(table.num_gpus)
    sync, base = Saving(interval_seconds=330, pause_seconds=5), Recovery(restart_seconds=600)
    for write in (60.0, 600.0):
        cases.append(("async", rates, best_saving(rates, replace(sync, interval_seconds=1000, pause_seconds=1, write_seconds=write), base), base))
    for copies, restart in product((5, 50), (60.0, 300.0)):
        memory = Saving(interval_seconds=120, pause_seconds=20, write_seconds=300, memory_pause_seconds=1.0, saves_per_write=copies)
        cases.append(("memory", rates, memory, replace(base, memory_restart_seconds=restart)))
    for groups, restart in product((4, 64), (300.0, 1800.0)):
        cases.append(("replicas", rates, sync, replace(base, replica_groups=groups, replica_restart_seconds=restart, quorum_seconds=5.0)))
    for every, stand in product((DAY, 7 * DAY), (600.0, 7200.0)):
        cases.append(("maintenance", rates, sync, replace(base, maintenance_every_seconds=every, maintenance_seconds=stand)))
    for spares in (6, 10):
        cases.append(("spares", rates, sync, replace(base, spare_servers=spares, repair_seconds=DAY)))
    for slowdown in (0.05, 0.5):
        cases.append(("stragglers", replace(rates, straggler=1 / DAY), sync, replace(base, straggler_seconds=0.2 * DAY, straggler_slowdown=slowdown)))
    for detection in (3600.0, 6 * 3600.0):
        cases.append(("corruption", replace(rates, corruption=0.1 / DAY), sync, replace(base, detection_seconds=detection)))
    return cases


def compare(cases: list[Case], days: float) -> dict[str, Any]:
    """Return the greatest and the mean difference of the useful share, in all and by tier or cause, with the failures that were played."""
    rows, started, played_failures = [], time.perf_counter(), 0
    for number, (name, rates, saving, recovery) in enumerate(cases):
        useful = days * DAY * (10 if sum(split_rates(rates, saving, recovery)[:2]) < 2e-5 or name in ("spares", "stragglers", "corruption") else 1)
        played = simulate(useful, rates, saving, recovery, stream(1, "benchmark", "goodput", number))
        rows.append((name, played.efficiency - goodput(rates, saving, recovery).efficiency))
        played_failures += played.num_failures
    worst = {name: round(max(abs(difference) for other, difference in rows if other == name), 5) for name in dict.fromkeys(name for name, _ in rows)}
    return {
        "cases": len(rows),
        "worst_difference": max(worst.values()),
        "mean_difference": round(sum(abs(difference) for _, difference in rows) / len(rows), 6),
        "worst_by_cause": worst,
        "failures_played": played_failures,
        "seconds": round(time.perf_counter() - started, 2),
    }


def explain(table: FailureTable) -> dict[str, Any]:
    """Return what makes more than 90 % true of Llama 3's pre-training with the failures of a table, and its forecast."""
    default = llama3_run()
    rates = table.rates(default.num_gpus)
    run = replace(default, rates=rates, num_counted=table.count(), saving=best_saving(rates, default.saving, default.recovery))
    longest = {}
    for pause in PAUSES:
        saving = best_saving(rates, replace(run.saving, pause_seconds=pause), run.recovery)
        restart = longest_restart(0.9, rates, saving, run.recovery)
        longest[f"{pause:g}"] = None if restart is None else round(restart)
    started = time.perf_counter()
    found = forecast(run)
    changed = {what: round(one.goodput.efficiency, 4) for what, one in what_if(run)}
    return {
        "failures": table.name,
        "mean_seconds_between_failures": round(rates.mean_time_between_failures),
        "pause_seconds": run.saving.pause_seconds,
        "restart_seconds": run.recovery.restart_seconds,
        "efficiency": round(found.goodput.efficiency, 4),
        "days": round(found.seconds / DAY, 2),
        "days_interval": [round(days, 2) for days in found.interval_days],
        "gpu_hours": round(found.gpu_hours),
        "longest_restart_for_90_percent_by_pause": longest,
        "what_if": changed,
        "forecast_seconds": round(time.perf_counter() - started, 2),
    }


def main() -> None:
    """Compare, explain, and give the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=float, default=4000.0)
    parser.add_argument("--failures", type=Path)
    parser.add_argument("--num-gpus", type=int, default=LLAMA3.num_gpus)
    parser.add_argument("--in-days", type=float, default=LLAMA3.days)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    table = read_failures(options.failures, num_gpus=options.num_gpus, days=options.in_days) if options.failures else LLAMA3
    if options.picture:
        options.picture.write_text(draw_intervals(llama3_run()), encoding="utf-8")
    result = {"benchmark": "goodput", "days": options.days, **compare(grid(table), options.days), "explained": explain(table)}
    give_result({**result, "machine": machine_facts("herdling", "numpy")}, options.write)


if __name__ == "__main__":
    main()
