"""`herdling quickstart`: raise a small Llama from the text of the user's own Python, offline, in minutes."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from herdling.cli.run import run_recipe
from herdling.recipe import load_recipe


def quickstart(
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: stages.sft.epochs=3.")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", metavar="STAGE", help="Make this stage again, and what follows from it.")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs"),
) -> None:
    """Raise a small Llama from your own Python's text, offline, in minutes."""
    with as_file(files("herdling") / "recipes" / "quickstart.toml") as path:
        recipe = load_recipe(path, set_ or ())
    run_recipe(recipe, runs, again=force or ())
