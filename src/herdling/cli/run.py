"""`herdling run RECIPE [STAGE ...]`: make the artifacts of a recipe; what is done is skipped, what was interrupted goes on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from herdling.base.artifact import Artifact
from herdling.base.progress import TerminalProgress
from herdling.recipe import Recipe, Runner, load_recipe
from herdling.recipe.lineage import State


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages and what they read. Default: all.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: stages.sft.epochs=3.")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", metavar="STAGE", help="Make this stage again, and what follows from it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs"),
) -> None:
    """Run a recipe: done stages are skipped, interrupted ones go on, others are made."""
    loaded = load_recipe(recipe, set_ or ())
    if dry_run:
        print_plan(Runner(recipe=loaded, runs=runs, again=frozenset(force or ())), stages or ())
        return
    run_recipe(loaded, runs, stages=stages or (), again=force or ())


def run_recipe(recipe: Recipe, runs: Path, *, stages: list[str] | tuple[str, ...] = (), again: list[str] | tuple[str, ...] = ()) -> dict[str, Artifact]:
    """Run with live progress and a polite Ctrl-C, then print the summary. Returns the artifacts by stage name."""
    from herdling.cli.summary import print_summary

    with stop_on_interrupt() as stop_requested:
        runner = Runner(
            recipe=recipe,
            runs=runs,
            progress=lambda name, position: TerminalProgress(name, position=position),
            stop_requested=stop_requested,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            again=frozenset(again),
        )
        artifacts = runner.run(stages)
    print_summary(runner.folder, artifacts)
    return artifacts


def print_plan(runner: Runner, stages: list[str] | tuple[str, ...]) -> None:
    """Print what a run would do, stage by stage."""
    for name, state, lines in runner.plan(stages):
        print(f"{name:20} {state.value}")
        for line in lines:
            print(f"{'':20}   {line}")
        if state is State.DIFFERS:
            print(f"{'':20}   make it again with --force {name}")


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C (or SIGTERM) ask the stage to save and stop; a second one stops at once."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        sys.stderr.write("\nstopping: the current step is finished and saved first (Ctrl-C again stops at once)\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
