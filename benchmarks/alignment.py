"""What learning from the reward buys, by a gold reward that no training sees: rejection sampling, DPO, PPO, three rounds, and an over-optimised run. JSON line.

    python benchmarks/alignment.py [--runs FOLDER] [--base FOLDER] [--seeds 1,2,3,4,5] [--write FILE] [--picture FILE.svg] [--only-collect]

Each seed is a run of `alignment.toml` (`herdling run ... --set seed=N`) with its own world, demonstrations, judgements and models; all begin at one base model:
`--base`, or the quickstart's stage pretrain, which is made if it is not there. A run that was stopped or killed goes on; what is finished is not made again.
Means are over seeds, with Student's 95 % intervals; a gain is the mean of the differences of each seed. About thirteen minutes a seed on one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import machine_facts
from result import give_result

from herdling.base.artifact import is_artifact, read_artifact
from herdling.base.intervals import mean_interval
from herdling.report.chart import Spot, frontier_chart
from herdling.report.standalone import standalone

HERE = Path(__file__).parent
RECIPE, QUICKSTART = HERE / "alignment.toml", HERE.parent / "recipes" / "quickstart.toml"
HERDLING = Path(sys.executable).with_name("herdling")
GAINS = {
    "rejection sampling over sft": ("v1", "sft"),
    "dpo over sft": ("dpo", "sft"),
    "ppo over sft": ("ppo", "sft"),
    "round 2 over round 1": ("v2", "v1"),
    "round 3 over round 2": ("v3", "v2"),
    "round 3 over round 1": ("v3", "v1"),
    "over-optimised over ppo": ("over_optimised", "ppo"),
}
METHODS = {"sft": ("sft",), "rejection sampling, rounds 1 to 3": ("v1", "v2", "v3"), "dpo": ("dpo",), "ppo, then without a brake": ("ppo", "over_optimised")}
Row = dict[str, Any]


def run(recipe: Path, runs: Path, *arguments: str) -> None:
    """Run a recipe to its end, its progress on stderr. Raises `SystemExit` with the command's own code where it fails."""
    command = [str(HERDLING), "run", str(recipe), "--runs", str(runs), *arguments]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code:
        sys.stderr.write(f"stopped at: {' '.join(command)}\nthe same benchmark goes on\n")
        raise SystemExit(code)


def base_model(base: Path | None, runs: Path) -> Path:
    """Return the base model, made by the quickstart where none is named."""
    if base is None:
        run(QUICKSTART, runs, "pretrain")
        base = runs / "quickstart" / "pretrain"
    return base


def measured(folder: Path) -> Row | None:
    """Return the numbers of one seed; None where its judgement is not finished."""
    if not is_artifact(folder / "judge"):
        return None
    found = json.loads((folder / "judge" / "results.json").read_text(encoding="utf-8"))
    stages = [read_artifact(child).manifest for child in sorted(folder.iterdir()) if is_artifact(child)]
    return {
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "slowest": dict(sorted(((stage["name"], round(stage["seconds"], 1)) for stage in stages), key=lambda item: -item[1])[:6]),
        "models": {label: model_row(row) for label, row in found["models"].items()},
        "win_rates_by_gold": {f"{row['new']} over {row['old']}": round(row["win_rates"]["gold"]["rate"], 4) for row in found["comparisons"]},
        "warnings": [{name: row[name] for name in ("new", "old", "watch")} for row in found["goodhart"]["warnings"]],
    }


def model_row(row: Row) -> Row:
    """Return what is told of one model in one seed."""
    rewards = {name: round(value["mean"], 4) for name, value in row["rewards"].items()}
    shares = {name: round(row[name]["share"], 4) for name in ("violations", "false_refusals", "unfinished", "unreadable")}
    skills = {name: round(value["share"], 4) for name, value in row["skills"].items()}
    return {**rewards, "kl": round(row["kl"]["mean"], 4), "tokens": round(row["tokens"]["mean"], 2), **shares, "right": skills}


def over_seeds(values: Sequence[float]) -> Row:
    """Return a mean over seeds with its interval; one seed has none."""
    mean, low, high = mean_interval(values)
    return {"mean": round(mean, 4), **({"low": round(low, 4), "high": round(high, 4)} if len(values) > 1 else {})}


def together(seeds: Mapping[str, Row]) -> Row:
    """Return means and gains over all seeds, and what the watch saw."""
    found = [row["models"] for row in seeds.values()]
    labels = list(found[0])
    numbers = ("gold", "reward", "watch", "kl", "violations", "false_refusals", "unfinished", "tokens")
    models = {label: {name: over_seeds([one[label][name] for one in found]) for name in numbers} for label in labels}
    gains = {
        gain: {name: over_seeds([one[new][name] - one[old][name] for one in found]) for name in ("gold", "reward", "watch", "violations", "false_refusals")}
        for gain, (new, old) in GAINS.items()
    }
    warnings = [row["warnings"] for row in seeds.values()]
    caught = [any(one["new"] == "over_optimised" for one in row) for row in warnings]
    by_gold, by_model = ([any(one["new"] == "over_optimised" and one["watch"] == watch for one in row) for row in warnings] for watch in ("gold", "watch"))
    alarms = [sum(one["new"] != "over_optimised" for one in row) for row in warnings]
    watched = {"over_optimised_caught": sum(caught), "by_gold": sum(by_gold), "by_reward_model": sum(by_model), "of": len(caught), "other_warnings": alarms}
    return {"models": models, "gains": gains, "goodhart_watch": watched, "seconds_a_seed": over_seeds([row["seconds"] for row in seeds.values()])}


def picture(models: Mapping[str, Row]) -> str:
    """Draw the frontier of all methods, each as a line, as an SVG that stands alone."""
    spots = [
        Spot(label=label, x=_bounds(models[label]["kl"]), y=_bounds(models[label]["gold"]), series=number)
        for number, method in enumerate(METHODS.values())
        for label in method
    ]
    drawn = frontier_chart(spots, "KL-reward frontier: mean over seeds, 95 % intervals", "KL from the supervised model, nats an answer", "gold")
    return standalone(drawn, ())


def _bounds(row: Row) -> tuple[float, float, float]:
    mean = float(row["mean"])
    return float(row.get("low", mean)), mean, float(row.get("high", mean))


def main() -> None:
    """Run all seeds, or collect what is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the folders alignment-N stand, or are made")
    parser.add_argument("--base", type=Path, help="a base model; without it the quickstart's is made")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--only-collect", action="store_true", help="run nothing, collect the numbers of what is finished")
    arguments = parser.parse_args()
    names = {seed: f"alignment-{seed}" for seed in arguments.seeds.split(",")}
    if not arguments.only_collect:
        base = base_model(arguments.base, arguments.runs)
        for seed, name in names.items():
            run(RECIPE, arguments.runs, "--set", f"seed={seed}", "--set", f"name={name}", "--set", f"stages.sft.model={base}")
    seeds = {seed: row for seed, name in names.items() if (row := measured(arguments.runs / name)) is not None}
    if not seeds:
        raise SystemExit(f"no seed of {arguments.seeds} is finished in {arguments.runs}")
    results = together(seeds)
    if arguments.picture:
        arguments.picture.parent.mkdir(parents=True, exist_ok=True)
        arguments.picture.write_text(picture(results["models"]), encoding="utf-8")
    result = {
        "what": "gold reward of a simulated annotator on held-out prompts, answers at temperature 1, of a 1.3M model's versions; means over seeds",
        "command": f"python benchmarks/alignment.py --seeds {arguments.seeds}",
        "machine": machine_facts("torch", "numpy"),
        "num_seeds": len(seeds),
        **results,
        "seeds": seeds,
    }
    give_result(result, arguments.write)


if __name__ == "__main__":
    main()
