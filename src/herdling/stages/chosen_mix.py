"""The data mix that was chosen, in `mix.json`: written by the stage choose_mix, read by the stages that train on it, each of which keeps a copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import LineageError, SettingsError
from herdling.stages.registry import StageRun

CHOSEN = "mix.json"


def write_chosen(folder: Path, described: Mapping[str, Any], mixes: Mapping[str, Mapping[str, float]]) -> None:
    """Write the best mix of a choice (`plan.data_mix.describe_mixes`) with its weights as they were set, its forecast, and how sure it is to be the best."""
    name = described["best"]
    found = described["mixes"][name]
    chosen = {"name": name, "weights": dict(mixes[name]), "loss": found["mean"], "interval": found["interval"], "chance_best": found["chance_best"]}
    write_json_atomic(folder / CHOSEN, {**chosen, "not_told_apart": described["not_told_apart"], "at": described["at"]})


def source_weights(run: StageRun, mix: str | None, sources: Mapping[str, float]) -> dict[str, float]:
    """Return the weights that a stage trains with: those of the chosen mix, which is recorded in its artifact and summary, or `sources`.

    Raises:
        SettingsError: both are given.
        LineageError: the artifact holds no chosen mix.
    """
    if mix is None:
        return dict(sources)
    if sources:
        raise SettingsError(f"stages.{run.name}: found mix and sources, and both set the weights of the sources. Leave one of them out")
    path = run.input(mix) / CHOSEN
    if not path.is_file():
        raise LineageError(f"stages.{run.name}.mix: {path.parent} holds no {CHOSEN}. Make the stage choose_mix again, with --force")
    chosen = json.loads(path.read_text(encoding="utf-8"))
    weights: dict[str, float] = chosen["weights"]
    write_json_atomic(run.folder / CHOSEN, chosen)
    run.summary |= {"mix": chosen["name"], "mix_weights": ", ".join(f"{name} {weight:g}" for name, weight in weights.items())}
    run.summary |= {"mix_chance_best": round(chosen["chance_best"], 3)}
    if chosen["not_told_apart"]:
        others = ", ".join(chosen["not_told_apart"])
        run.summary |= {"mix_not_told_apart_from": others}
        run.progress.note(f"mix {chosen['name']}: its small runs do not tell it apart from {others}; its chance to be the best is {chosen['chance_best']:.0%}")
    return weights
