"""Read the artifacts of a run into one plain value that the report, and `herdling show`, are written from.

Reads manifests, ledgers, metrics, results and samples; writes nothing; imports no torch. An artifact that lacks one of these files is shown without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from herdling.base.artifact import Artifact
from herdling.base.records import read_jsonl

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCard:
    """One artifact as the report shows it."""

    name: str
    kind: str
    output: str
    fingerprint: str
    seconds: float
    settings: Row
    summary: Row
    parents: Mapping[str, str]
    """Reference as written in the settings -> name of the artifact (or path) it was read from."""
    ledger: Row = field(default_factory=dict)
    metrics: Sequence[Row] = ()
    mixture: Sequence[Row] = ()
    samples: Sequence[Row] = ()
    reward: Row = field(default_factory=dict)
    """What a reward model reports (`evals.reward.report_card`); empty for every other stage."""
    retention: Row = field(default_factory=dict)
    """How long an instruction held (`evals.retention`); empty for every other stage."""
    curves: Row = field(default_factory=dict)
    """What the best of k samples is worth (`stages.rejection_sampling`); empty for every other stage."""
    preprompts: Row = field(default_factory=dict)
    """What pre-prompts bettered (`stages.context_distillation`); empty for every other stage."""
    ppo: Row = field(default_factory=dict)
    """Iterations and looks at held-out prompts (`stages.ppo`); empty for every other stage."""
    judgement: Row = field(default_factory=dict)
    """What a judgement of models reports (`evals.preference.judgement`); empty for every other stage."""
    mixes: Row = field(default_factory=dict)
    """The data mixes that were compared (`plan.data_mix.describe_mixes`); empty for every other stage."""
    scaling_law: Row = field(default_factory=dict)
    """`law`, `fit` and `forecast` of a sweep (`stages.scaling_laws`); empty for every other stage."""
    loss_forecast: Row = field(default_factory=dict)
    """What a law forecast of this model, and what was measured (`stages.forecast_model`); empty for a model that none chose."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """Name -> SVG that the stage drew."""

    @property
    def dropped(self) -> Mapping[str, Row]:
        """Reason -> {count, examples}, for each row set aside."""
        dropped: Mapping[str, Row] = self.ledger.get("dropped", {})
        return dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """A run as the report shows it. `scores` is label of a model -> its results; `answers` are rows of `answers.jsonl`."""

    title: str
    description: str
    seed: int
    stages: tuple[StageCard, ...]
    scores: Mapping[str, Row]
    answers: Sequence[Row]
    machine: Row
    code: Row
    finished: str

    @property
    def seconds(self) -> float:
        """The time of all stages together."""
        return sum(stage.seconds for stage in self.stages)


def read_run(artifacts: Sequence[Artifact], *, title: str, description: str = "") -> RunCard:
    """Read the artifacts of a run, in the order in which they are to be shown."""
    scores: dict[str, Row] = {}
    answers: list[Row] = []
    for artifact in artifacts:
        if artifact.kind == "evaluation":
            scores |= read_scores(artifact.folder)
            answers += read_rows(artifact.folder / "answers.jsonl")
    last = max(artifacts, key=lambda artifact: str(artifact.manifest.get("finished", ""))).manifest
    return RunCard(
        title=title,
        description=description,
        seed=int(last.get("seed", 0)),
        stages=tuple(read_stage(artifact) for artifact in artifacts),
        scores=scores,
        answers=answers,
        machine=last.get("machine", {}),
        code=last.get("code", {}),
        finished=str(last.get("finished", "")),
    )


def read_stage(artifact: Artifact) -> StageCard:
    """Read one artifact."""
    manifest, folder = artifact.manifest, artifact.folder
    ledger = _read_json(folder / "ledger.json")
    return StageCard(
        name=str(manifest.get("name", folder.name)),
        kind=str(manifest.get("kind", "")),
        output=artifact.kind,
        fingerprint=artifact.fingerprint,
        seconds=float(manifest.get("seconds", 0.0)),
        settings=manifest.get("settings", {}),
        summary=manifest.get("summary", {}),
        parents={reference: _parent_name(folder, path) for reference, path in manifest.get("parents", {}).items()},
        ledger=ledger,
        metrics=read_rows(folder / "metrics.jsonl"),
        mixture=ledger.get("counts", {}).get("mixture", ()),
        samples=read_rows(folder / "samples.jsonl", 100),
        reward=_read_json(folder / "results.json") if artifact.kind == "reward" else {},
        retention=_read_json(folder / "results.json") if artifact.kind == "retention" else {},
        curves=_read_json(folder / "curves.json") if artifact.kind == "samples" else {},
        preprompts=_read_json(folder / "preprompts.json") if artifact.kind == "samples" else {},
        ppo=_read_json(folder / "curve.json") if manifest.get("kind") == "ppo" else {},
        judgement=_read_json(folder / "results.json") if artifact.kind == "judgement" else {},
        mixes=_read_json(folder / "mixes.json") if artifact.kind == "data_mix" else {},
        scaling_law={name: _read_json(folder / f"{name}.json") for name in ("law", "fit", "forecast")} if artifact.kind == "scaling_law" else {},
        loss_forecast=_read_json(folder / "loss_forecast.json"),
        pictures={path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")},
    )


def read_scores(folder: Path) -> dict[str, Row]:
    """Return label of a model -> {"bits_per_byte", "questions"} from an evaluation's `results.json`."""
    models: dict[str, Row] = _read_json(folder / "results.json").get("models", {})
    return models


def read_rows(path: Path, most: int | None = None) -> list[Row]:
    """Return the rows of a .jsonl file, or none when there is no such file."""
    return [row for _, row in islice(read_jsonl(path), most)] if path.is_file() else []


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _parent_name(folder: Path, path: str) -> str:
    """Name a parent by its stage when it is of the same run, else by its path."""
    parent = Path(path)
    return parent.name if parent.parent.resolve() == folder.parent.resolve() else path
