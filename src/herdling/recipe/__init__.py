"""Recipes: read one, order its stages, run them with exact lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from herdling.base.artifact import Artifact
from herdling.recipe.recipe import Recipe, decode_recipe, load_recipe
from herdling.recipe.runner import Runner

__all__ = ["Recipe", "Runner", "decode_recipe", "load_recipe", "run"]


def run(
    recipe: Recipe | Mapping[str, Any] | str | Path, *, runs: str | Path = "runs", stages: Iterable[str] = (), overrides: Iterable[str] = ()
) -> dict[str, Artifact]:
    """Run a recipe, the plain data of one, or a TOML file from Python, without a word; return its artifacts by stage name.

    `overrides` are lines such as `stages.sft.epochs=3` over a TOML file. Raises what `Runner.run` raises.
    """
    if isinstance(recipe, Mapping):
        recipe = decode_recipe(recipe)
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(Path(recipe), overrides)
    return Runner(recipe=recipe, runs=Path(runs)).run(list(stages))
