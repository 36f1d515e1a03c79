"""Read a recipe: one TOML file a run, decoded strictly into the typed settings of its stages.

TOML because YAML reads `3e-4` as text and `no` as false. Three layers, the later wins: the recipe named by `base`, the file itself, and the lines given with
`--set`. A stage may be `like` another: the same again with what its own table says, as the rounds of an alignment are. Every fault names its dotted path.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herdling.base.decode import decode, encode
from herdling.base.errors import SettingsError, did_you_mean
from herdling.stages.registry import Stage, stage_class

TOP_LEVEL = ("name", "seed", "base", "description", "stages")
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A run as it is to be: its name, its seed and its stages with typed settings, in the order of the file."""

    name: str
    seed: int
    stages: Mapping[str, Stage]
    description: str = ""
    path: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain data: every setting written out, defaults too."""
        stages = {name: {"kind": stage.kind, **encode(stage)} for name, stage in self.stages.items()}
        return {"name": self.name, "seed": self.seed, "description": self.description, "stages": stages}


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file with overrides such as `stages.sft.epochs=3`.

    Raises:
        SettingsError: the file is missing or no TOML, a key is unknown, a value is of the wrong type, a stage kind does not exist.
    """
    data = _read(path, seen=())
    for line in overrides:
        _override(data, line)
    return decode_recipe(data, path=path)


def decode_recipe(data: Mapping[str, Any], path: Path | None = None) -> Recipe:
    """Make a recipe of plain data. Raises `SettingsError` with every fault of the whole recipe at once."""
    where = str(path) if path else "recipe"
    for key in data:
        if key not in TOP_LEVEL:
            raise SettingsError(f"{where}: {key}: unknown setting{did_you_mean(key, TOP_LEVEL)}; accepted here: {', '.join(TOP_LEVEL)}")
    name = data.get("name", path.stem if path else None)
    if not isinstance(name, str) or not _NAME.match(name):
        raise SettingsError(f"{where}: name: found {name!r}, expected lower-case letters, digits, - and _ (it names the folder of the run)")
    seed = data.get("seed", 1)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise SettingsError(f"{where}: seed: found {seed!r}, expected a whole number")
    sections = data.get("stages")
    if not isinstance(sections, Mapping) or not sections:
        raise SettingsError(f"{where}: stages: there are none; write at least one [stages.NAME] table")
    return Recipe(name=name, seed=seed, stages=_stages(sections, where), description=str(data.get("description", "")), path=path)


def _stages(sections: Mapping[str, Any], where: str) -> dict[str, Stage]:
    stages, faults = {}, []
    for name, section in sections.items():
        try:
            if not _NAME.match(name):
                raise SettingsError(f"stages.{name}: a stage's name takes lower-case letters, digits, - and _ (it names a folder)")
            if not isinstance(section, Mapping):
                raise SettingsError(f"stages.{name}: found {section!r}, expected a table")
            section = _written_out(name, sections)
            settings = {key: value for key, value in section.items() if key != "kind"}
            stages[name] = decode(stage_class(section.get("kind", name), f"stages.{name}.kind"), settings, f"stages.{name}")
        except SettingsError as error:
            faults.append(str(error))
    if faults:
        raise SettingsError("\n".join(f"{where}: {line}" for fault in faults for line in fault.splitlines()))
    return stages


def _written_out(name: str, sections: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a stage's table as it would be without `like`: laid over that of the stage that it is like, table by table, kind included.

    The stage itself never learns of it: its settings, and so its fingerprint, are those of a table that was written out.
    """
    section = dict(sections[name])
    if "like" not in section:
        return section
    like, where = section.pop("like"), f"stages.{name}.like"
    if not isinstance(like, str) or not isinstance(sections.get(like), Mapping):
        others = [other for other in sections if other != name]
        raise SettingsError(f"{where}: no stage is called {like!r}{did_you_mean(str(like), others)}; there are: {', '.join(others) or 'none'}")
    if like in (*above, name):
        raise SettingsError(f"{where}: goes round in a circle: {' -> '.join((*above, name, like))}")
    below = _written_out(like, sections, (*above, name))
    kind = below.get("kind", like)
    if section.get("kind", kind) != kind:
        raise SettingsError(f"stages.{name}.kind: found {section['kind']!r}, but {like} is a {kind}, and this stage is like it. Leave one of the two out")
    return _merge(below | {"kind": kind}, section)


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Read one TOML file on top of its `base`, if it names one (a path relative to the file)."""
    if path.resolve() in seen:
        raise SettingsError(f"{path}: is its own base (through {' -> '.join(str(step) for step in seen)})")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such recipe. Copy one with: herdling new {path}", next_command=f"herdling new {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from None
    base = data.pop("base", None)
    return data if base is None else _merge(_read(path.parent / str(base), (*seen, path.resolve())), data)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another, table by table."""
    merged = dict(below)
    for key, value in above.items():
        held = merged.get(key)
        merged[key] = _merge(held, value) if isinstance(held, dict) and isinstance(value, Mapping) else value
    return merged


def _override(data: dict[str, Any], line: str) -> None:
    """Apply one `--set` line: a line of TOML; bare words are taken as text, so `--set name=tiny` works in a shell."""
    key, separator, value = line.partition("=")
    if not separator or not key.strip():
        raise SettingsError(f"--set {line}: expected KEY=VALUE, such as stages.sft.epochs=3")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *parents, last = (part.strip() for part in key.split("."))
    table = data
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {line}: {part} is a value, not a table")
    table[last] = parsed
