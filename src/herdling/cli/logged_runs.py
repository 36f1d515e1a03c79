"""What finished runs tell of a machine's speed: the steps of their pre-training and fine-tuning, from manifests. Imports no torch."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herdling.base.artifact import DEVICE_RECORD, Artifact, is_artifact, read_artifact
from herdling.base.errors import DataError
from herdling.checkpoint.huggingface_config import load_config
from herdling.plan.machine import LAW_WORK, FinishedRun
from herdling.plan.step_time import StepShape, work_of_step

KINDS = ("pretrain", "sft")
"""Stages whose work the law of step times was measured on."""


def logged_runs(path: Path) -> list[FinishedRun]:
    """Return the trainings of a run's folder, or the one of an artifact, as a machine remembers them.

    Raises:
        DataError: there is none, or it was made on other ground.
    """
    if not path.exists():
        raise DataError(f"--log {path}: no such folder; accepted: a run's folder such as runs/quickstart, or the folder of a model in it")
    folders = [path] if is_artifact(path) else sorted(child for child in path.iterdir() if child.is_dir() and is_artifact(child)) if path.is_dir() else []
    trained = [artifact for artifact in map(read_artifact, folders) if artifact.manifest.get("kind") in KINDS]
    if not trained:
        raise DataError(f"--log {path}: holds no finished {' or '.join(KINDS)}, whose steps could be told; accepted: a run's folder such as runs/quickstart")
    for artifact in trained:
        _check_ground(artifact)
    return [_finished(artifact) for artifact in trained]


def _check_ground(artifact: Artifact) -> None:
    made = artifact.manifest["machine"]
    here = {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}
    differs = [f"{name} {made.get(name)}, here {value}" for name, value in here.items() if made.get(name) != value]
    if differs:
        raise DataError(f"{artifact.folder}: was made on another machine ({'; '.join(differs)}), so its times say nothing of this one")


def _finished(artifact: Artifact) -> FinishedRun:
    manifest = artifact.manifest
    summary, settings = manifest["summary"], manifest["settings"]
    model = load_config(artifact.folder)
    tokens = round(summary["tokens"] / summary["steps"])
    supervised = min(1.0, summary.get("tokens_supervised", 0) * summary.get("epochs", 1) / summary["tokens"]) or 1.0
    shape = StepShape(
        model=model,
        tokens=tokens,
        sequence_length=min(tokens, model.max_position_embeddings),
        micro_batch_tokens=settings.get("loop", {}).get("micro_batch_tokens", 4096),
        supervised=supervised,
    )
    compiled = " compiled" if settings.get("loop", {}).get("compile") else ""
    return FinishedRun(
        work=LAW_WORK + compiled,
        kinds=tuple(float(kind) for kind in work_of_step(shape)),
        forecast_seconds=1.0,  # told anew by the law that it is added to
        step_seconds=round(_step_seconds(artifact, summary), 6),
        steps=summary["steps"],
        date=manifest["finished"][:10],
        dtype=_dtype(artifact.folder),
    )


def _step_seconds(artifact: Artifact, summary: Mapping[str, Any]) -> float:
    """Return the mean step; of a run from before steps were timed by themselves, by its tokens a second, which do not count padding."""
    speed = summary["speed"]
    if speed.get("steps"):
        return float(speed["step_seconds"] / speed["steps"])
    ledger = artifact.folder / "ledger.json"
    counts = json.loads(ledger.read_text(encoding="utf-8")).get("counts", {}) if ledger.is_file() else {}
    return float(summary["tokens"] * counts.get("rows filled", 1.0) / summary["tokens_per_second"] / summary["steps"])


def _dtype(folder: Path) -> str:
    """Return the type that a run trained in; float32 where no record says."""
    path = folder / DEVICE_RECORD
    return str(json.loads(path.read_text(encoding="utf-8"))["dtype"]) if path.is_file() else "float32"
