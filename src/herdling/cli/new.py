"""`herdling new FILE`: copy a recipe that comes with herdling, to be changed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from herdling.base.artifact import write_text_atomic
from herdling.base.errors import SettingsError, did_you_mean


def new(
    path: Annotated[Path, typer.Argument(help="The recipe to write, such as my.toml.")],
    like: Annotated[str, typer.Option("--like", help="The recipe to start from.")] = "assistant",
) -> None:
    """Copy a recipe to start from."""
    folder = files("herdling") / "recipes"
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    if like not in names:
        raise SettingsError(f"--like {like}: no such recipe{did_you_mean(like, names)}; there are: {', '.join(names)}")
    if path.exists():
        raise SettingsError(f"{path}: exists already, and is not overwritten. Choose another name")
    text = (folder / f"{like}.toml").read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, text.replace(f'name = "{like}"', f'name = "{recipe_name(path)}"', 1))
    print(f"{path} written. Change it, then: herdling run {path}")


def recipe_name(path: Path) -> str:
    """Return a run's name made of a file's name: lower case, with - for what a name does not take."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in path.stem.lower())
    return kept.strip("-_") or "run"
