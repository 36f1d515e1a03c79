"""Recipes: read one, order its stages, run them with exact lineage."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from herdling.base.artifact import Artifact
from herdling.recipe.recipe import Recipe, decode_recipe, load_recipe
from herdling.recipe.runner import Runner

__all__ = ["Recipe", "Runner", "decode_recipe", "load_recipe", "run"]


def run(recipe: Recipe | str | Path, *, runs: str | Path = "runs", stages: Iterable[str] = (), overrides: Iterable[str] = ()) -> dict[str, Artifact]:
    """Run a recipe (or a TOML file of one) from Python and return its artifacts by stage name.

    Raises what `Runner.run` raises.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), overrides)
    return Runner(recipe=loaded, runs=Path(runs)).run(list(stages))
