"""What a run ends with: a table of what each stage bought, a sample dialog, the report's path and the next commands to type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

from rich.console import Console
from rich.table import Table as TerminalTable

from herdling.base.artifact import Artifact
from herdling.report.card import RunCard, read_rows, read_run
from herdling.report.judgement import wins_in_short
from herdling.report.tables import Table, bits_table, questions_table, stages_table

NUM_SAMPLES = 4


def print_summary(folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    """Print the summary of a run to stdout."""
    console = Console(highlight=False, soft_wrap=not Console().is_terminal)
    card = read_run(list(artifacts.values()), title=folder.name)
    for table in (stages_table(card), questions_table(card), bits_table(card)):
        if table is not None:
            console.print(terminal_table(table))
    _print_judgements(console, card)
    _print_samples(console, artifacts)
    _print_next(console, folder, artifacts)


def terminal_table(table: Table) -> TerminalTable:
    """Turn a table of the report into one for the terminal."""
    made = TerminalTable(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
    for index, column in enumerate(table.columns):
        made.add_column(column, justify="right" if table.numeric and index else "left")
    for row in table.rows:
        made.add_row(*row)
    return made


def _print_judgements(console: Console, card: RunCard) -> None:
    """Print what each Goodhart watch saw, and who won in the last judgement."""
    judged = [stage for stage in card.stages if stage.judgement]
    if judged:
        console.print(terminal_table(wins_in_short(judged[-1].judgement)))
    for stage in judged:
        style = "bold red" if stage.judgement["goodhart"]["warnings"] else ""
        for line in stage.judgement["goodhart"]["lines"]:
            console.print(f"{stage.name}: {line}", style=style, markup=False)


def _print_samples(console: Console, artifacts: Mapping[str, Artifact]) -> None:
    models = [artifact for artifact in artifacts.values() if artifact.kind == "model" and (artifact.folder / "samples.jsonl").is_file()]
    if not models:
        return
    console.print(f"\nSamples of {models[-1].folder.name}, on texts that it has not seen:", style="bold")
    for row in read_rows(models[-1].folder / "samples.jsonl", most=NUM_SAMPLES):
        console.print(indent(row["prompt"].strip(), "  > "), style="cyan", markup=False)
        console.print(indent(row["completion"].strip(), "    "), markup=False)


def _print_next(console: Console, folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    console.print()
    for artifact in artifacts.values():
        if artifact.kind == "report":
            console.print(f"Report: {artifact.folder / 'report.html'}", soft_wrap=True)
    if any(artifact.kind in ("model", "export") for artifact in artifacts.values()):
        console.print("Next:", f"  herdling chat {folder}", "  herdling new my.toml && herdling run my.toml", sep="\n", soft_wrap=True)
