"""Constraints on answers that must hold through a whole dialog: kinds, values, wordings, and instructions drawn from them (Llama 2, section 3.3).

Some values are held out: no instruction of training names them, so that what was learned can be told from what was remembered. Reads no model and no file but
its own `constraints.jsonl`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from herdling.base.decode import settings
from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.base.records import read_jsonl, write_jsonl
from herdling.base.seeds import stream

FILE = "constraints.jsonl"
SLOT = "{x}"
_LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])?\s*")


@settings
class ConstraintKind:
    """One kind of constraint: hobbies, languages and public figures in the paper. `{x}` stands for a value in every text."""

    full: str
    """The constraint as a sentence, such as `Act as {x}.`"""
    short: str
    """The same as a label, such as `Figure: {x}.`"""
    values: tuple[str, ...] | dict[str, str] = ()
    """What `{x}` may be; a table gives each value the regular expression that an obedient answer matches."""
    ask: str | None = None
    """A question whose answer by the model is a list of more values: what it names itself, it knows (Llama 2, section A.3.5)."""
    pattern: str | None = None
    """Regular expression that an obedient answer matches, for values that bring none, such as `(?i){x}`. Unset: such an answer cannot be checked."""
    probes: tuple[str, ...] = ()
    """Questions that bring the value to light, such as `What do you like to do?`. Empty: any answer shows it, as it shows a language."""
    held_out: tuple[str, ...] = ()
    """Values that are kept out of training, for the figure on new constraints."""
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the other values that is kept out too, drawn by the name of each."""

    def __post_init__(self) -> None:
        for name, text in (("full", self.full), ("short", self.short)):
            if SLOT not in text:
                raise SettingsError(f"constraints: {name} is {text!r}, which has no {SLOT} for the value to stand at")
        for pattern in (*(self.values.values() if isinstance(self.values, dict) else ()), *([self.pattern] if self.pattern else [])):
            try:
                re.compile(pattern.replace(SLOT, "x"))
            except re.error as error:
                raise SettingsError(f"constraints: {pattern!r} is no regular expression ({error})") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One value of one kind, worded. `pattern` is empty where no program can tell whether an answer obeys."""

    kind: str
    value: str
    full: str
    short: str
    pattern: str
    probes: tuple[str, ...]
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What a user asks to be kept to throughout: one constraint, or several of different kinds."""

    constraints: tuple[Constraint, ...]
    shortened: bool = False

    @property
    def text(self) -> str:
        """The instruction as it stands before a message."""
        return " ".join(one.short if self.shortened else one.full for one in self.constraints)

    @property
    def name(self) -> str:
        """Kinds and values, for ledgers and tables."""
        return " + ".join(f"{one.kind}: {one.value}" for one in self.constraints)

    def before(self, message: str) -> str:
        """Return a user's message with the instruction before it."""
        return f"{self.text} {message}"

    def obeyed(self, answer: str) -> bool:
        """Say whether an answer keeps to every constraint that a program can check."""
        return all(re.search(one.pattern, answer.strip()) for one in self.constraints if one.pattern)

    @property
    def checkable(self) -> bool:
        """True where a program can check at least one of the constraints."""
        return any(one.pattern for one in self.constraints)


def make_constraints(kinds: Mapping[str, ConstraintKind], listed: Mapping[str, Sequence[str]]) -> list[Constraint]:
    """Return every value of every kind, worded. `listed` are the values that the model named, kind by kind; one that is named twice counts once.

    Raises:
        SettingsError: a kind without any value, or one whose `held_out` names none.
    """
    made: list[Constraint] = []
    for name, kind in kinds.items():
        values = list(dict.fromkeys([*kind.values, *listed.get(name, ())]))
        if not values:
            raise SettingsError(f"constraints.{name}: has no value: give `values`, or a question (`ask`) that the model answers with a list")
        for unknown in set(kind.held_out) - set(values):
            raise SettingsError(f"constraints.{name}.held_out: there is no value {unknown!r}{did_you_mean(unknown, values)}; there are: {', '.join(values)}")
        made += [_worded(name, kind, value) for value in values]
    return made


def _worded(name: str, kind: ConstraintKind, value: str) -> Constraint:
    own = kind.values.get(value) if isinstance(kind.values, dict) else None
    return Constraint(
        kind=name,
        value=value,
        full=kind.full.replace(SLOT, value),
        short=kind.short.replace(SLOT, value),
        pattern=own or (kind.pattern or "").replace(SLOT, re.escape(value)),
        probes=kind.probes,
        held_out=value in kind.held_out or stream(0, "held-out constraints", name, value).random() < kind.held_out_share,
    )


def parse_list(answer: str) -> list[str]:
    """Return the items of a model's list: one a line, without numbers and bullets. A line of more than six words is talk, not an item."""
    items = (_LIST_MARK.sub("", line).strip(" .,;") for line in answer.splitlines())
    return list(dict.fromkeys(item for item in items if item and len(item.split()) <= 6 and not item.endswith(":")))


def draw_instruction(constraints: Sequence[Constraint], rng: np.random.Generator, *, most: int, shortened: float) -> Instruction:
    """Draw one to `most` constraints of different kinds, each number as likely, and whether they are shortened (Llama 2, section 3.3: half of the time)."""
    kinds = list(dict.fromkeys(one.kind for one in constraints))
    count = 1 + int(rng.integers(min(most, len(kinds))))
    chosen = sorted(rng.permutation(len(kinds))[:count].tolist())
    drawn = [[one for one in constraints if one.kind == kinds[index]] for index in chosen]
    return Instruction(constraints=tuple(values[int(rng.integers(len(values)))] for values in drawn), shortened=bool(rng.random() < shortened))


def write_constraints(folder: Path, constraints: Iterable[Constraint]) -> None:
    """Write `constraints.jsonl` of an artifact."""
    write_jsonl(folder / FILE, ({field.name: getattr(one, field.name) for field in fields(one)} for one in constraints))


def read_constraints(folder: Path) -> Iterator[Constraint]:
    """Yield the constraints of an artifact. Raises `DataError` where it has none: only ghost_attention writes them."""
    path = folder / FILE
    if not path.is_file():
        raise DataError(f"{folder}: holds no {FILE}, so there is no constraint to ask for. Name the output of a stage of kind ghost_attention")
    for number, row in read_jsonl(path):
        yield _from_row(row, f"{path}, line {number:,}")


def _from_row(row: Mapping[str, Any], where: str) -> Constraint:
    try:
        return Constraint(**{**row, "probes": tuple(row["probes"])})
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: is no constraint ({error})") from None
