"""Decide for one stage: to do, done and the same, interrupted, or made from other settings (refused, with the difference field by field).

The identity of a stage's result is what it is made *from*: its kind, the settings that can change the result, the contents of its inputs and the seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from herdling.base.artifact import is_artifact, read_artifact, remove, value_fingerprint, write_json_atomic
from herdling.base.decode import encode, stable_settings
from herdling.stages.registry import Stage

RECORD = "stage.json"


class State(Enum):
    """Where a stage stands."""

    TO_DO = "to do"
    INTERRUPTED = "interrupted: goes on"
    DONE = "done"
    DIFFERS = "made from other settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a stage's result is made from: plain data that two runs can be compared by."""

    kind: str
    seed: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Reference -> fingerprint of the contents."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What each setting is where a recipe says nothing: no part of the identity."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as it stands in a manifest."""
        return {"kind": self.kind, "seed": self.seed, "settings": dict(self.settings), "inputs": dict(self.inputs)}

    @property
    def key(self) -> str:
        """The fingerprint of all of it."""
        return value_fingerprint(self.to_dict())


def identity(stage: Stage, seed: int, inputs: Mapping[str, str]) -> Identity:
    """Return what a stage with these settings and inputs would be made from."""
    unset = {one.name: one.default for one in fields(stage) if one.default is not MISSING}  # type: ignore[arg-type]  # a stage is a dataclass
    defaults = {name: stable_settings(value) if is_dataclass(value) else encode(value) for name, value in unset.items()}
    return Identity(kind=stage.kind, seed=seed, settings=stable_settings(stage), inputs=inputs, defaults=defaults)


def partial_folder(folder: Path) -> Path:
    """Return where a stage works before its result is renamed into place."""
    return folder.with_name(f".{folder.name}.partial")


def state_of(folder: Path, wanted: Identity) -> tuple[State, list[str]]:
    """Compare what stands in a run's folder with what is wanted. Returns the state and, if it differs, the difference line by line.

    A setting that there was not yet when the folder was made, and that now has its default, is no difference: a default of a new setting does what was done
    before it (docs/decisions/0003), so that a newer herdling goes on with older runs.
    """
    if is_artifact(folder):
        found = read_artifact(folder).manifest
        done = State.DONE
    else:
        record = read_record(folder)
        if record is None:
            return State.TO_DO, []
        found, done = record, State.INTERRUPTED
    if found["key"] == wanted.key:
        return done, []
    differs = list(difference(found, wanted.to_dict(), wanted.defaults))
    return (State.DIFFERS, differs) if differs else (done, [])


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of an interrupted run of this stage, or None when there is none that can be read."""
    try:
        record = json.loads((partial_folder(folder) / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record if isinstance(record, dict) else None


def begin_attempt(folder: Path, wanted: Identity, *, now: float) -> tuple[Path, float]:
    """Make the folder that a stage works in, or take up that of an interrupted run. Returns it, and the seconds worked there before.

    An attempt that was killed could not note its time: it lasted at least until the newest file that it wrote. `now` is seconds since the epoch.
    """
    partial, record = partial_folder(folder), read_record(folder)
    before = 0.0
    if record is None:
        remove(partial)
        partial.mkdir(parents=True)
    else:
        before = float(record["seconds"])
        if "began" in record:
            newest = max(path.stat().st_mtime for path in partial.rglob("*"))
            before += max(0.0, newest - record["began"])
    write_record(folder, wanted, seconds=before, began=now)
    return partial, before


def write_record(folder: Path, wanted: Identity, *, seconds: float, began: float | None = None) -> None:
    """Note what the stage in work is made from, the seconds worked so far, and when the attempt that now works began."""
    running = {} if began is None else {"began": began}
    write_json_atomic(partial_folder(folder) / RECORD, {**wanted.to_dict(), "key": wanted.key, "seconds": round(seconds, 3), **running})


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each field in which what was made and what is wanted differ, but for new settings at their defaults."""
    unset = dict(_flatten(defaults, "settings"))
    before, after = (dict(_flatten({key: side[key] for key in ("kind", "seed", "settings", "inputs")})) for side in (found, wanted))
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path, "(not set)"), after.get(path, "(not set)")
        is_new = path not in before and path in unset and unset[path] == new
        if old != new and not is_new:
            if path.startswith("inputs."):
                old, new = (str(side)[:12] for side in (old, new))
            yield f"{path.removeprefix('settings.')}: was {old!r}, now {new!r}"


def _flatten(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _flatten(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, data
