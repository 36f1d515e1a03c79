"""Scaling laws against published fits and held-out measurements; ends with one JSON line.

    python benchmarks/scaling_accuracy.py --kit FOLDER [--isoflop FILE ...] [--ladder FILE [--curves FILE]] [--write FILE] [--worlds N]

`--kit` holds `scaling/` (Chinchilla's and Llama 3's points, the OLMo ladder). Any other file of the same columns can be given with `--isoflop` and
`--ladder`: it is fitted on all but its largest budgets or sizes and scored on these. About a minute on one core; coverage is most of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from machine import machine_facts
from result import give_result

from herdling.plan.coverage import coverage_of_law, coverage_of_line, score_above, score_largest_budgets
from herdling.plan.data_mix import fit_mixes, forecast_mixes
from herdling.plan.downstream import LARGE_RUNS, Form, fit_ladder
from herdling.plan.isoflop import fit_isoflop
from herdling.plan.ladder import LadderRun, chosen_tasks, read_ladder, split_ladder, with_curves
from herdling.plan.ladder_forecast import forecast_ladder
from herdling.plan.measurements import MixRows, read_losses
from herdling.plan.parametric import fit_laws, fit_parametric
from herdling.plan.scaling_law import Array

LLAMA_3_FLOPS = 3.8e25
MIX_FLOPS, MIX_RATIO = 1.1e20, 20.0
BESIROGLU = {"A": 477.826, "B": 2143.417, "E": 1.817218, "alpha": 0.347311, "beta": 0.367172}
COUNTING = {"runs_alike": 0.0, "large_runs_more": LARGE_RUNS}
FORMS: tuple[Form, ...] = ("shared", "per_task")
NUM_BOOTSTRAPS = 1000
NUM_TIMES = 5


def chinchilla(path: Path, num_worlds: int) -> dict[str, Any]:
    """Return Besiroglu's fit, its time and that of 1,000 bootstraps, the error on the largest runs, and the coverage of intervals."""
    rows = read_losses(path)
    seconds = []
    for _ in range(NUM_TIMES):
        start = perf_counter()
        fit = fit_parametric(rows, outliers="highest:5")
        seconds.append(perf_counter() - start)
    kept = rows.take(np.flatnonzero(~np.isin(rows.lines, fit.dropped_lines)))
    count = len(kept.loss)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=NUM_BOOTSTRAPS).astype(np.float64)
    law = fit.law
    start = perf_counter()
    fit_laws(
        kept.parameters,
        kept.tokens,
        np.log(kept.loss)[None],
        weights,
        start=np.array([np.log(law.E), np.log(law.A), np.log(law.B), law.alpha, law.beta]),
    )
    return {
        "objective": fit.objective,
        "law": law.as_dict(),
        "largest_deviation_from_published": max(abs(getattr(law, name) / value - 1) for name, value in BESIROGLU.items()),
        "fit_seconds": {"first": seconds[0], "median": median(seconds)},
        "seconds_for_1000_bootstraps": perf_counter() - start,
        "held_out_above_1e21": {name: score_above(kept, 1e21, large_runs=power).mean_relative_error for name, power in COUNTING.items()},
        "coverage": coverage_of_law(rows, fit, [LLAMA_3_FLOPS], num_worlds=num_worlds),
    }


def sweep(path: Path, num_worlds: int) -> dict[str, Any]:
    """Return both fits of an isoFLOP sweep, the errors on budgets left out, and the coverage of intervals."""
    rows = read_losses(path)
    line, fit = fit_isoflop(rows), fit_parametric(rows)
    return {
        "file": path.name,
        "alpha": line.alpha,
        "A": line.A,
        "tokens_at_3.8e25": line.tokens(LLAMA_3_FLOPS),
        "parametric": fit.law.as_dict() | {"tokens_at_3.8e25": fit.law.allocate(LLAMA_3_FLOPS).tokens},
        "held_out_largest": {name: score_largest_budgets(rows, large_runs=power).mean_relative_error for name, power in COUNTING.items()},
        "held_out_largest_two": {name: score_largest_budgets(rows, num_budgets=2, large_runs=power).mean_relative_error for name, power in COUNTING.items()},
        "held_out_by_curve": {f"largest {number}": score_largest_budgets(rows, num_budgets=number).by_curve for number in (1, 2, 3)},
        "coverage_of_line": coverage_of_line(rows, [LLAMA_3_FLOPS]),
        "coverage_of_law": coverage_of_law(rows, fit, [LLAMA_3_FLOPS], num_worlds=num_worlds),
    }


def mixes(num_worlds: int) -> dict[str, float]:
    """Return how often intervals hold the expected loss of made mixes and its distance from the best, and the best mix was found or not told apart from it."""
    held: dict[str, list[bool]] = {"loss": [], "behind_best": [], "best": []}
    for world in range(num_worlds):
        rows, truth = made_mixes(seed=world)
        found = forecast_mixes(fit_mixes(rows), MIX_FLOPS, MIX_RATIO, num_worlds=200, seed=world)
        best = truth[found[0].mix]
        held["loss"] += [forecast.interval.holds(truth[forecast.mix]) for forecast in found]
        held["behind_best"] += [forecast.behind_interval.holds(truth[forecast.mix] - best) for forecast in found[1:]]
        held["best"].append(min((f for f in found if f.behind_interval.low <= 0), key=lambda f: truth[f.mix]).mix == min(truth, key=lambda mix: truth[mix]))
    return {name: float(np.mean(found)) for name, found in held.items()}


def made_mixes(*, seed: int) -> tuple[MixRows, dict[str, float]]:
    """Return runs on four made mixes, exponents shared but for chance, 0.4 % noise a run, and the true loss of each 30 times beyond the largest run."""
    random = np.random.default_rng(seed)
    size, ratio = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e8, 4), (20.0, 60.0)))
    names, losses, truth = [], [], {}
    alpha, beta = random.uniform(0.25, 0.45, size=2)
    for mix in ("a", "b", "c", "d"):
        floor, by_size, by_data = random.normal([2.0, 0.6, 0.6], [0.05, 0.05, 0.05])

        def law(n: Array | float, d: Array | float, e: float = floor, a: float = by_size, b: float = by_data) -> Array:
            return np.asarray(e + a * (np.asarray(n) / 1e8) ** -alpha + b * (np.asarray(d) / 1e10) ** -beta)

        names += [mix] * len(size)
        losses.append(law(size, ratio * size) * np.exp(0.004 * random.standard_normal(len(size))))
        large = (MIX_FLOPS / 6 / MIX_RATIO) ** 0.5
        truth[mix] = float(law(large, MIX_RATIO * large))
    parameters, tokens = np.tile(size, 4), np.tile(ratio * size, 4)
    rows = MixRows(name="made", flops=6 * parameters * tokens, parameters=parameters, tokens=tokens, mixes=tuple(names), losses={"all": np.concatenate(losses)})
    return rows, truth


def ladder(runs: Sequence[LadderRun], *, largest: float | None = None, form: Form = "shared") -> dict[str, Any]:
    """Return the errors of accuracy for each larger run, and how many intervals held."""
    fitted, larger = split_ladder(list(runs), largest)
    found = forecast_ladder(fitted, larger, form=form)
    errors = {name: run["mean_relative_error"] for name, run in found["runs"].items()}
    return {"exponents": found["exponents"], "errors": errors, "mean_relative_error": found["mean_relative_error"], "coverage": found["coverage"]}


def olmo(folder: Path) -> dict[str, Any]:
    """Return the published method's largest deviation from what was published, and the default's errors: chosen on the first split, read on the others."""
    reference = json.loads((folder / "olmo_ladder_reference_predictions.json").read_text(encoding="utf-8"))["reference"]["chained_main"]
    ends = read_ladder(folder / "olmo_ladder_final.csv")
    every = with_curves(ends, read_ladder(folder / "olmo_ladder_trajectory.csv.gz"))
    runs = chosen_tasks(every, [row["Task"] for row in reference])
    others = chosen_tasks([run for run in every if run.parameters < 2e9 or run.parameters > 4e9], sorted(set(ends[0].tasks) - set(runs[0].tasks)))
    published = fit_ladder([run for run in runs if run.marked], form="per_task", back_test=False)
    target = next(run for run in runs if run.name.startswith("peteish13"))
    deviations = []
    for row in reference:
        error = abs(published.forecast(target, row["Task"]).accuracy / target.tasks[row["Task"]].final_accuracy - 1)
        deviations.append(abs(error - float(row["Rel Error"])))
    return {
        "published_errors_reproduced_within": max(deviations),
        "chosen_on_190M-760M_to_1B_3B": ladder([run for run in runs if run.parameters < 4e9], largest=8e8),
        "from_1.3B": ladder(runs, largest=1.5e9),
        "from_3B": ladder(runs, largest=4e9),
        "tasks_that_chose_nothing_from_1.3B": {form: ladder(others, largest=1.5e9, form=form) for form in FORMS},
        "from_1.3B_without_curves": ladder(chosen_tasks(ends, [row["Task"] for row in reference]), largest=1.5e9),
    }


def main() -> None:
    """Fit what was given and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path)
    parser.add_argument("--isoflop", type=Path, nargs="*", default=[])
    parser.add_argument("--ladder", type=Path)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--worlds", type=int, default=60, help="made worlds for the coverage of parametric intervals")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if not (arguments.kit or arguments.isoflop or arguments.ladder):
        parser.error("nothing to fit: give --kit, --isoflop or --ladder")
    result: dict[str, Any] = {
        "what": "scaling laws against published fits and held-out measurements",
        "command": "python benchmarks/scaling_accuracy.py" + (f" --kit {arguments.kit.name}" if arguments.kit else ""),
        "machine": machine_facts("numpy"),
    }
    if arguments.kit:
        folder = arguments.kit / "scaling"
        result["chinchilla"] = chinchilla(folder / "chinchilla_svg_extracted.csv", arguments.worlds)
        result["llama3"] = sweep(folder / "llama3_isoflops_points.csv", arguments.worlds)
        result["olmo_ladder"] = olmo(folder)
        result["made_mixes"] = mixes(arguments.worlds)
    result["isoflop"] = [sweep(path, arguments.worlds) for path in arguments.isoflop]
    if arguments.ladder:
        runs = read_ladder(arguments.ladder)
        result["ladder"] = ladder(with_curves(runs, read_ladder(arguments.curves)) if arguments.curves else runs)
    give_result(result, arguments.write)


if __name__ == "__main__":
    main()
