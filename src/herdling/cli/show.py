"""`herdling show ARTIFACT`: what it is, what it was made from, its settings, curves and samples, and the batches it was trained on.

Reads a run's folder, one artifact, a model folder of Hugging Face, or a recipe. Starts without torch; `--batch` of tokens needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from herdling.base.artifact import Artifact, is_artifact, read_artifact
from herdling.base.errors import DataError, LineageError
from herdling.base.units import format_seconds
from herdling.cli.training_rows import first_rows, parents
from herdling.recipe import load_recipe
from herdling.report.batch import decoded_rows, draw_row
from herdling.report.card import StageCard, read_stage
from herdling.report.curves import stage_charts
from herdling.report.data_mix import mix_section
from herdling.report.lineage import lineage_lines
from herdling.report.scaling_law import has_law, law_section
from herdling.report.section import StageSection
from herdling.report.tables import Table, flat, in_short, ledger_table, shown
from herdling.report.terminal import draw_chart

NUM_SAMPLES = 5


def show(
    path: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A run's folder, an artifact in it, a model folder, or a recipe.")],
    batch: Annotated[bool, typer.Option("--batch", help="Show a training batch, coloured by document and loss mask.")] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, max=4, help="Rows of the batch to show.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Write it for a program.")] = False,
) -> None:
    """Show what an artifact is: lineage, settings, curves, samples."""
    console = Console(highlight=False)
    if batch:
        show_batch(console, _artifact_at(path), rows, as_json=as_json)
    elif is_artifact(path):
        show_artifact(console, read_artifact(path), as_json=as_json)
    elif (path / "recipe.json").is_file():
        show_run(console, path, as_json=as_json)
    elif path.suffix in (".toml", ".json") and path.is_file():
        show_settings(console, read_settings(path), as_json=as_json)
    elif (path / "config.json").is_file():
        show_settings(console, json.loads((path / "config.json").read_text(encoding="utf-8")), as_json=as_json)
    else:
        raise LineageError(
            f"{path}: holds nothing that herdling knows: no finished artifact, no run, no model folder" + ("" if path.exists() else "; there is no such path")
        )


def show_run(console: Console, folder: Path, *, as_json: bool) -> None:
    """Show all artifacts of a run, oldest first, and what is unfinished."""
    artifacts = sorted((read_artifact(child) for child in folder.iterdir() if is_artifact(child)), key=_made_at)
    unfinished = sorted(child.name.removeprefix(".").removesuffix(".partial") for child in folder.glob(".*.partial"))
    if as_json:
        _write_json({"run": str(folder), "stages": [dict(artifact.manifest) for artifact in artifacts], "unfinished": unfinished})
        return
    cards = [read_stage(artifact) for artifact in artifacts]
    for line, card in zip(lineage_lines(cards), cards, strict=True):
        console.print(Text(line), soft_wrap=True)
        console.print(Text(f"    {format_seconds(card.seconds)}  {in_short(card)}", style="dim"), soft_wrap=True)
    for name in unfinished:
        console.print(Text(f"{name}  unfinished: the same command goes on with it", style="yellow"), soft_wrap=True)
    if cards:
        console.print(Text(f"Look closer with: herdling show {folder / cards[-1].name}", style="dim"), soft_wrap=True)


def show_artifact(console: Console, artifact: Artifact, *, as_json: bool) -> None:
    """Show one artifact."""
    if as_json:
        _write_json(artifact.manifest)
        return
    card, manifest = read_stage(artifact), artifact.manifest
    console.print(
        Text(f"{card.name}: {card.output} made by {card.kind} in {format_seconds(card.seconds)}, {manifest['finished']}", style="bold"), soft_wrap=True
    )
    console.print(Text(in_short(card)), soft_wrap=True)
    _section(console, "Lineage", lineage_lines([read_stage(one) for one in ancestors(artifact)]))
    _section(console, "Settings", (f"{name} = {shown(value)}" for name, value in flat(card.settings)))
    fingerprints = {"contents": artifact.fingerprint, "tokenizer": manifest.get("tokenizer"), "chat template": manifest.get("chat_template")}
    _section(console, "Fingerprints", (f"{name:13} {value}" for name, value in fingerprints.items() if value))
    for section in [*([mix_section(card)] if card.mixes else []), *([law_section(card)] if has_law(card) else [])]:
        _measured(console, section)
    _ledger(console, ledger_table(card))
    _curves(console, card)
    _samples(console, card.samples[:NUM_SAMPLES])


def show_settings(console: Console, settings: Any, *, as_json: bool) -> None:
    """Show every setting of a recipe, or of a model's config, one a line."""
    if as_json:
        _write_json(settings)
        return
    for name, value in flat(settings):
        console.print(Text(f"{name} = {shown(value)}"), soft_wrap=True)


def read_settings(path: Path) -> Any:
    """Read a recipe with every default written out, or a JSON file."""
    return load_recipe(path).to_dict() if path.suffix == ".toml" else json.loads(path.read_text(encoding="utf-8"))


def show_batch(console: Console, artifact: Artifact, num_rows: int, *, as_json: bool) -> None:
    """Show the first rows that an artifact was trained on."""
    decoded = decoded_rows(*first_rows(artifact))[:num_rows]
    if as_json:
        _write_json([[{"id": t.id, "text": t.text, "document": t.document, "supervised": t.supervised} for t in row] for row in decoded])
        return
    for number, row in enumerate(decoded):
        console.print(draw_row(row, number), soft_wrap=True, end="")
    console.print(Text.assemble(("green", "bold green"), " = supervised, ", ("grey", "grey62"), " = only read; the background changes with the document"))


def ancestors(artifact: Artifact) -> list[Artifact]:
    """Return all artifacts that this one was made from, directly or not, each before what was made of it, itself last."""
    found: dict[Path, Artifact] = {}

    def visit(one: Artifact) -> None:
        if one.folder in found:
            return
        for path in parents(one).values():
            if is_artifact(path):
                visit(read_artifact(path))
        found[one.folder] = one

    visit(artifact)
    return list(found.values())


def _artifact_at(path: Path) -> Artifact:
    """Return the artifact here; of a run's folder the newest model."""
    if (path / "recipe.json").is_file():
        models = [read_artifact(child) for child in path.iterdir() if is_artifact(child) and read_artifact(child).kind == "model"]
        if not models:
            raise DataError(f"{path}: holds no finished model yet. Name an artifact in it")
        return max(models, key=_made_at)
    return read_artifact(path)


def _made_at(artifact: Artifact) -> tuple[str, int]:
    """Order artifacts of one run: by the second they were finished in, then by how much they were made from."""
    return str(artifact.manifest.get("finished", "")), len(ancestors(artifact))


def _section(console: Console, title: str, lines: Iterable[str]) -> None:
    listed = list(lines)
    if listed:
        console.print(Text(f"\n{title}", style="bold"))
    for line in listed:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _measured(console: Console, section: StageSection) -> None:
    for warning in section.warnings:
        console.print(Text(f"\n{warning}", style="yellow"), soft_wrap=True)
    for table in section.tables:
        rows = [table.columns, *table.rows]
        widths = [max(14, *(len(row[column]) for row in rows)) for column in range(len(table.columns))]
        _section(console, table.title, ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows])


def _ledger(console: Console, table: Table | None) -> None:
    if table:
        _section(console, "Ledger", (f"{what:40} {count:>12}  {example}".rstrip() for what, count, example in table.rows))


def _curves(console: Console, card: StageCard) -> None:
    for chart in stage_charts(card)[:2]:  # loss and validation; the report has the others
        console.print()
        console.print(draw_chart(chart, width=max(20, min(72, console.width - 14))), end="")


def _samples(console: Console, samples: Sequence[Any]) -> None:
    if samples:
        console.print(Text("\nSamples", style="bold"))
    for row in samples:
        console.print(Text.assemble(("  > ", "cyan"), str(row.get("prompt", "")), "\n    ", str(row.get("completion", ""))), soft_wrap=True)


def _write_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
