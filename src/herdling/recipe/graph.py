"""Order the stages of a recipe by what they read. The graph is found in the settings: a field that names `@stage` is an edge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from herdling.base.decode import inputs_of
from herdling.base.errors import SettingsError, did_you_mean
from herdling.stages.registry import Stage


def dependencies(name: str, stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    """Return the stages that this one reads, in the order of its settings.

    Raises:
        SettingsError: a reference names no stage of the recipe, or one that makes another kind of artifact.
    """
    found = []
    for field, reference, mark in inputs_of(stage):
        if not reference.startswith("@"):
            continue
        target = reference.removeprefix("@")
        where = f"stages.{name}.{field}"
        if target not in stages:
            raise SettingsError(f"{where}: no stage is called {target!r}{did_you_mean(target, stages)}; there are: {', '.join(stages)}")
        made = stages[target].output
        if not mark.accepts(made):
            raise SettingsError(f"{where}: {reference} makes {made}, expected {mark}")
        if target not in found:
            found.append(target)
    return found


def ordered(stages: Mapping[str, Stage]) -> list[str]:
    """Return all stage names so that each comes after what it reads; ties keep the order of the file. Raises `SettingsError` on a circle."""
    edges = {name: dependencies(name, stage, stages) for name, stage in stages.items()}
    sorter = TopologicalSorter(edges)
    try:
        sorter.prepare()
    except CycleError as error:
        raise SettingsError(f"stages: go round in a circle: {' -> '.join(reversed(error.args[1]))}") from None
    order: list[str] = []
    rank = {name: index for index, name in enumerate(stages)}
    waiting = sorted(sorter.get_ready(), key=rank.__getitem__)
    while waiting:
        name = waiting.pop(0)
        order.append(name)
        sorter.done(name)
        waiting = sorted([*waiting, *sorter.get_ready()], key=rank.__getitem__)
    return order


def needed_for(names: Iterable[str], stages: Mapping[str, Stage]) -> list[str]:
    """Return these stages and all that they read, in order. Raises `SettingsError` when a name is not in the recipe."""
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in stages:
            raise SettingsError(f"no stage is called {name!r}{did_you_mean(name, stages)}; the recipe has: {', '.join(stages)}")
        if name not in wanted:
            wanted.add(name)
            todo.extend(dependencies(name, stages[name], stages))
    return [name for name in ordered(stages) if name in wanted]


def downstream_of(names: Iterable[str], stages: Mapping[str, Stage]) -> set[str]:
    """Return these stages and all that read from them, directly or not."""
    reached = set(names)
    for name in ordered(stages):
        if any(target in reached for target in dependencies(name, stages[name], stages)):
            reached.add(name)
    return reached
