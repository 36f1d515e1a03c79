"""How right the planner is about runs that others measured: what fits, how long a step takes, which split is fastest, memory, FLOPs.

    python benchmarks/planner_accuracy.py --configs measured_configs.csv.gz --json

Takes any file with the columns of `planner_rows.COLUMNS` and ends with one JSON line. Step times are judged four ways: with the shipped constants; with
constants fitted to the file, one set for all (`step_time_mape`); each publisher with constants fitted to the others (`unseen`); and one set a publisher
(`own`), which starts from the others'. The first and last of the fits are crossed: the file is halved by a hash of each configuration, and a row is only ever
judged by constants that were fitted to the other half. Memory has no constant that was fitted to what ran out of it. The groups of `choice` are all splits
that one publisher tried of one model on one cluster with one kernel; the constants that choose in a group were fitted to others, and once they are the shipped.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from planner_rows import Row, read_rows
from result import give_result

from herdling.base.errors import HerdlingError
from herdling.plan.calibration import Measurement, fit_efficiency, log_errors
from herdling.plan.efficiency import Efficiency
from herdling.plan.layout import MARGIN, rank
from herdling.plan.memory import training_memory
from herdling.plan.throughput import flops_per_token, forecast

MIN_FITTED = 6
"""Measured steps of a publisher from which constants of its own are fitted."""
CHOICE_GROUP = 2
"""Finished runs from which a group can be chosen in."""
NUM_FOLDS = 5
"""Parts of the groups: constants for one are fitted to the others."""


def main() -> None:
    """Judge the planner on a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=Path, required=True, help="measured configurations, .csv or .csv.gz")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    parser.add_argument("--out", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    try:
        rows, refused = read_rows(arguments.configs)
    except HerdlingError as error:
        sys.exit(f"error: {error}")
    if not rows:
        sys.exit(f"error: {arguments.configs}: no row can be planned; the first: {refused[0] if refused else 'there is none'}")
    result = {"rows": len(rows), "refused": len(refused), **judge(rows)}
    if not arguments.json:
        for line in refused:
            print(f"not planned: {line}", file=sys.stderr)
        for source, found in result["per_source"].items():
            print(f"{source:16} {found}", file=sys.stderr)
    give_result(result, arguments.out)


def judge(rows: Sequence[Row]) -> dict[str, Any]:
    """Return all figures of a file."""
    timed = [row for row in rows if row.seconds]
    judged = {
        "shipped": [Efficiency()] * len(timed),
        "global": cross_fitted(timed, lambda some: fit_efficiency(measurements(some), weights=balanced(some))),
        "unseen": of_others(timed),
    }
    by_source = {source: [number for number, row in enumerate(timed) if row.source == source] for source in sorted({row.source for row in timed})}
    per_source: dict[str, dict[str, Any]] = {}
    for source, numbers in by_source.items():
        some = [timed[number] for number in numbers]
        per_source[source] = {name: errors_of(some, [fitted[number] for number in numbers]) for name, fitted in judged.items()}
        crossed = cross_fitted(some, partial(_fit_own, start=judged["unseen"][numbers[0]])) if len(some) >= MIN_FITTED else None
        per_source[source]["own"] = errors_of(some, crossed) if crossed else None
    overall = {name: errors_of(timed, fitted) if timed else {"mape": None, "coverage": None} for name, fitted in judged.items()}
    own = [found["own"] for found in per_source.values() if found["own"]]
    return {
        **judge_fits(rows),
        "step_time_mape": overall["global"]["mape"],
        "step_time_mape_shipped": overall["shipped"]["mape"],
        "step_time_mape_unseen": overall["unseen"]["mape"],
        "step_time_mape_per_stack": mean_over(own, "mape"),
        "interval_coverage": overall["global"]["coverage"],
        "interval_coverage_shipped": overall["shipped"]["coverage"],
        "interval_coverage_per_stack": mean_over(own, "coverage"),
        "per_source": per_source,
        "memory": judge_memory(rows),
        "choice": judge_choice(rows),
        "flops": judge_flops(rows),
        "llama3": [
            {"gpus": row.split.num_gpus, "reported_mfu": row.reported["mfu"], "mfu_causal": round(step.mfu_causal, 4), "mfu_full": round(step.mfu_full, 4)}
            for row in rows
            if row.source == "llama3"
            for step in [forecast(row.job, row.split, row.stack, row.gpu)]
        ],
    }


def _fit_own(rows: Sequence[Row], start: Efficiency) -> Efficiency:
    return fit_efficiency(measurements(rows), start)


def measurements(rows: Iterable[Row]) -> list[Measurement]:
    """Return the measured steps of rows."""
    return [Measurement(job=row.job, split=row.split, stack=row.stack, gpu=row.gpu, seconds=row.seconds) for row in rows if row.seconds]


def balanced(rows: Sequence[Row]) -> list[float]:
    """Return weights by which a publisher with four times the rows weighs twice as much, with mean 1."""
    raw = np.array([1 / np.sqrt(sum(other.source == row.source for other in rows)) for row in rows])
    return list(raw / raw.mean())


def of_others(rows: Sequence[Row]) -> list[Efficiency]:
    """Return for each row constants that were fitted to all other publishers; the shipped ones where there is no other."""
    fitted: dict[str, Efficiency] = {}
    for source in {row.source for row in rows}:
        others = [row for row in rows if row.source != source]
        fitted[source] = fit_efficiency(measurements(others), weights=balanced(others)) if others else Efficiency()
    return [fitted[row.source] for row in rows]


def cross_fitted(rows: Sequence[Row], fit: Callable[[list[Row]], Efficiency]) -> list[Efficiency]:
    """Return for each row constants that were fitted to the half it is not in; the shipped ones where the other half is empty."""
    halves = {half: [row for row in rows if row.held_out == half] for half in (False, True)}
    fitted = {half: fit(halves[not half]) if halves[not half] else Efficiency() for half in (False, True)}
    return [fitted[row.held_out] for row in rows]


def errors_of(rows: Sequence[Row], efficiencies: Sequence[Efficiency]) -> dict[str, float | int]:
    """Return how far forecasts are from measured steps, and how many steps lie in their 90 % interval."""
    logs = np.concatenate([log_errors(measurements([row]), efficiency) for row, efficiency in zip(rows, efficiencies, strict=True)])
    relative = np.abs(np.expm1(logs))
    inside = [abs(log) <= efficiency.spread for log, efficiency in zip(logs, efficiencies, strict=True)]
    return {
        "n": len(rows),
        "mape": round(float(relative.mean()), 4),
        "median": round(float(np.median(relative)), 4),
        "bias": round(float(np.expm1(logs).mean()), 4),
        "coverage": round(fmean(inside), 4),
    }


def mean_over(found: Iterable[dict[str, Any]], name: str) -> float | None:
    """Return the mean of a figure, a step counting once."""
    listed = list(found)
    return round(sum(one[name] * one["n"] for one in listed) / sum(one["n"] for one in listed), 4) if listed else None


def judge_fits(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how often the planner is right about fitting, and how often it says `fits` of what ran out of memory."""
    told = [row for row in rows if row.fits is not None]
    right: dict[str, list[bool]] = defaultdict(list)
    wrong = 0
    for row in told:
        fits = predicted_to_fit(row)
        right[row.source].append(fits == row.fits)
        wrong += fits and not row.fits
    flat = [one for some in right.values() for one in some]
    return {
        "fits_accuracy": round(fmean(flat), 4) if flat else None,
        "wrong_fits": round(wrong / len(flat), 4) if flat else None,
        "fits_rows": len(flat),
        "fits_per_source": {source: {"n": len(some), "accuracy": round(fmean(some), 4)} for source, some in sorted(right.items())},
    }


def predicted_to_fit(row: Row, margin: float = 0.0) -> bool:
    """Say whether the memory model holds a row for fitting."""
    return training_memory(row.job, row.split, row.stack).total <= row.gpu.memory_gib * 2**30 * (1 - margin)


def judge_memory(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the mean error of the allocator's peak, and each."""
    told = {row.id: training_memory(row.job, row.split, row.stack).allocated / 2**30 / row.memory_gib - 1 for row in rows if row.memory_gib}
    return {"mean_abs_error": round(fmean(abs(error) for error in told.values()), 4) if told else None, "errors": {key: round(e, 4) for key, e in told.items()}}


def judge_choice(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how much slower the chosen split of each group is than its best, and how many choices ran out of memory."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        if row.source == "aleph-alpha" and row.fits is not None:
            groups[row.job, row.split.num_gpus, row.kernel].append(row)
    groups = {key: some for key, some in groups.items() if sum(bool(row.seconds) for row in some) >= CHOICE_GROUP}
    if not groups:
        return {"groups": 0}
    listed = list(groups.values())
    fitted = [_fitted_without(listed, fold) for fold in range(NUM_FOLDS)]
    crossed = regrets_of(listed, [fitted[number % NUM_FOLDS] for number in range(len(listed))])
    return {"groups": len(groups), **crossed, "shipped": regrets_of(listed, [Efficiency()] * len(listed))}


def regrets_of(groups: Sequence[Sequence[Row]], efficiencies: Sequence[Efficiency]) -> dict[str, Any]:
    """Return the regret of the choice in each group: the time of what is picked over the best, less one."""
    picked = [pick(some, efficiency) for some, efficiency in zip(groups, efficiencies, strict=True)]
    best = [min(row.seconds for row in some if row.seconds) for some in groups]
    regrets = [row.seconds / least - 1 for row, least in zip(picked, best, strict=True) if row.seconds]
    return {
        "mean_regret": round(fmean(regrets), 4) if regrets else None,
        "median_regret": round(median(regrets), 4) if regrets else None,
        "worst_regret": round(max(regrets), 4) if regrets else None,
        "out_of_memory_picks": sum(row.seconds is None for row in picked),
    }


def _fitted_without(groups: Sequence[Sequence[Row]], fold: int) -> Efficiency:
    others = [row for number, some in enumerate(groups) if number % NUM_FOLDS != fold for row in some if row.seconds]
    return fit_efficiency(measurements(others)) if others else Efficiency()


def pick(rows: Sequence[Row], efficiency: Efficiency) -> Row:
    """Return the row that the planner would run: the fastest forecast of those that leave the margin free; where none does, the one that needs least."""
    roomy = [row for row in rows if predicted_to_fit(row, MARGIN)]
    if not roomy:
        return min(rows, key=lambda row: training_memory(row.job, row.split, row.stack).total)
    return min(roomy, key=lambda row: rank(row.split, forecast(row.job, row.split, row.stack, row.gpu, efficiency).seconds))


def judge_flops(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the mean ratio of reported to planned FLOPs a token, where a publisher told TFLOPs and tokens a second: each in its own convention."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        tflops, rate, mfu = (row.reported[name] for name in ("tflops_per_gpu", "tokens_per_s_per_gpu", "mfu"))
        if row.source == "mosaicml" and mfu:  # TFLOPs are cut to whole ones there, MFU is not
            tflops = str(float(mfu) * {"a100": 312, "h100": 1979 if row.job.precision == "fp8" else 989}[row.gpu.name[:4]])
        if tflops and rate and row.source in ("aleph-alpha", "megatron-bridge", "mosaicml"):
            ratios[row.source].append(float(tflops) * 1e12 / float(rate) / convention_of(row))
    return {source: {"n": len(some), "mean": round(fmean(some), 4)} for source, some in sorted(ratios.items())}


def convention_of(row: Row) -> float:
    """Return the FLOPs a token as the publisher counts them: the causal half and no look-up, or 6 N and all of the matrix, N with what embeddings they have."""
    if row.source == "megatron-bridge":
        return flops_per_token(row.job)
    model = row.job.model
    parameters = float(row.reported["params"]) if row.source == "mosaicml" and row.reported.get("params") else model.num_parameters()
    return 6 * parameters + 12 * model.num_hidden_layers * model.hidden_size * row.job.seq_len


if __name__ == "__main__":
    main()
