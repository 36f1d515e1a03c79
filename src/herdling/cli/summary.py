"""What a run ends with: a table of what each stage bought, a sample dialog, the report's path and the next commands to type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from herdling.base.artifact import Artifact
from herdling.base.units import format_count, format_seconds


def print_summary(folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    """Print the summary of a run to stdout."""
    console = Console(highlight=False)
    console.print(_stage_table(artifacts))
    for artifact in artifacts.values():
        if artifact.kind == "evaluation":
            results = json.loads((artifact.folder / "results.json").read_text(encoding="utf-8"))
            console.print(_evaluation_table(results["models"]))
    _print_samples(console, artifacts)
    _print_next(console, folder, artifacts)


def _stage_table(artifacts: Mapping[str, Artifact]) -> Table:
    table = Table(title="What was made", title_justify="left")
    for column in ("stage", "made", "time", "in short"):
        table.add_column(column, justify="right" if column == "time" else "left")
    for name, artifact in artifacts.items():
        table.add_row(name, artifact.kind, format_seconds(artifact.manifest["seconds"]), _in_short(artifact.manifest.get("summary", {})))
    total = sum(artifact.manifest["seconds"] for artifact in artifacts.values())
    table.add_section()
    table.add_row("all", "", format_seconds(total), "")
    return table


def _in_short(summary: Mapping[str, Any]) -> str:
    shown = (f"{name.replace('_', ' ')} {_number(value)}" for name, value in summary.items() if isinstance(value, int | float | str))
    return ", ".join(shown)


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return format_count(value) if abs(value) >= 1000 else f"{value:.4g}"


def _evaluation_table(models: Mapping[str, Any]) -> Table:
    """One row for each measure, one column for each model: what each stage bought."""
    table = Table(title="What each stage bought", title_justify="left")
    table.add_column("measure")
    for label in models:
        table.add_column(label, justify="right")
    groups = {group: None for scores in models.values() for group in scores.get("questions", {})}
    for group in groups:
        table.add_row(f"{group.replace('_', ' ')} (exact)", *(_accuracy(scores.get("questions", {}).get(group)) for scores in models.values()))
    table.add_section()
    sources = {source: None for scores in models.values() for source in scores.get("bits_per_byte", {})}
    for source in sources:
        table.add_row(f"bits per byte, {source}", *(_bits(scores.get("bits_per_byte", {}).get(source)) for scores in models.values()))
    return table


def _accuracy(score: Mapping[str, float] | None) -> str:
    return "-" if score is None else f"{score['accuracy']:.0%} [{score['low']:.0%}, {score['high']:.0%}]"


def _bits(score: Mapping[str, float] | None) -> str:
    return "-" if score is None else f"{score['bits_per_byte']:.3f} (xz {score['xz']:.3f})" if "xz" in score else f"{score['bits_per_byte']:.3f}"


def _print_samples(console: Console, artifacts: Mapping[str, Artifact], num_samples: int = 4) -> None:
    models = [artifact for artifact in artifacts.values() if artifact.kind == "model" and (artifact.folder / "samples.jsonl").is_file()]
    if not models:
        return
    rows = [json.loads(line) for line in (models[-1].folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    console.print(f"\nA sample of what {models[-1].folder.name} says:", style="bold")
    for row in rows[:num_samples]:
        console.print(f"  [cyan]>[/cyan] {row['prompt']}\n    {row['completion']}", markup=True)


def _print_next(console: Console, folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    for artifact in artifacts.values():
        if artifact.kind == "report":
            console.print(f"\nReport: {artifact.folder / 'report.html'}", soft_wrap=True)
    if any(artifact.kind in ("model", "export") for artifact in artifacts.values()):
        console.print("Next:", f"  herdling chat {folder}", "  herdling new my.toml && herdling run my.toml", sep="\n", soft_wrap=True)
