"""Plain data (TOML, JSON) to typed settings and back, strictly: no unknown key, no silent conversion, every error at its own path.

A settings class is written with `@settings` and read like a table of the paper: one field a line, its docstring under it. The decoding itself is done by
pydantic; this file adds the strictness, the wording of errors (`stages.sft.epochs: found 'two', expected a whole number`) and two marks for fields:

    log_every: Annotated[int, Volatile()] = 10        # cannot change the result: stays out of fingerprints
    model: Annotated[str, Input("model")]             # names an artifact: `@stage`, a path, or hf:org/name
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, PydanticUndefinedAnnotation, TypeAdapter, ValidationError

from herdling.base.errors import SettingsError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Volatile:
    """Marks a setting that cannot change the result: a change of it neither redoes nor refuses a finished stage."""


@dataclass(frozen=True, slots=True, init=False)
class Input:
    """Marks a setting that names an artifact of one of these kinds (none named: of any): `@stage` of the same recipe, a path, or `hf:org/name`."""

    kinds: tuple[str, ...]

    def __init__(self, *kinds: str) -> None:
        object.__setattr__(self, "kinds", kinds)

    def accepts(self, kind: str) -> bool:
        """Say whether an artifact of this kind fits."""
        return not self.kinds or kind in self.kinds

    def __str__(self) -> str:
        """Return the kinds as an error names them."""
        return " or ".join(self.kinds) or "any artifact"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a class of typed settings: a frozen, keyword-only dataclass that `decode` reads strictly."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(cls)
    except PydanticUndefinedAnnotation as error:  # a programming error of ours: settings must be importable at run time
        raise TypeError(f"{cls}: annotation {error.name} is not importable at run time") from error


def decode(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Read plain data as `cls`. `where` is the dotted path of `data`, for messages.

    Raises:
        SettingsError: one line per fault, each with its path, what was found and what is accepted.
    """
    try:
        # JSON mode is strict about types, yet lets an array be a tuple and 1 be a float: just what TOML needs.
        decoded: T = _adapter(cast(Hashable, cls)).validate_json(json.dumps(data))
        return decoded
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(cls, fault, where) for fault in error.errors())) from None
    except TypeError as error:
        raise SettingsError(f"{where}: holds a value that settings cannot hold ({error})") from None


def encode(value: Any) -> Any:
    """Return settings as plain data that `decode` reads back to an equal value."""
    return _adapter(cast(Hashable, type(value))).dump_python(value, mode="json")


def marks(annotation: Any) -> tuple[Any, ...]:
    """Return the marks (`Volatile`, `Input`) of an annotation, also inside `| None`, `list[...]` and `dict[str, ...]`."""
    found = list(getattr(annotation, "__metadata__", ()))
    for argument in get_args(annotation):
        if not isinstance(argument, Volatile | Input):
            found.extend(marks(argument))
    return tuple(found)


def setting_hints(cls: type[Any]) -> dict[str, Any]:
    """Return the resolved annotation of each field of a settings class, marks included."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def inputs_of(value: Any) -> Iterator[tuple[str, str, Input]]:
    """Yield (dotted field, reference, which kinds fit) for each artifact that these settings name, in the order of the fields."""
    for name, hint in setting_hints(type(value)).items():
        found = [mark for mark in marks(hint) if isinstance(mark, Input)]
        held = getattr(value, name)
        if found:
            for key, reference in _references(held):
                yield f"{name}{key}", reference, found[0]
        elif is_dataclass(held):
            for inner, reference, mark in inputs_of(held):
                yield f"{name}.{inner}", reference, mark


def _references(held: Any) -> Iterator[tuple[str, str]]:
    if isinstance(held, str):
        yield "", held
    elif isinstance(held, Mapping):
        yield from ((f".{key}", item) for key, item in held.items())
    elif held is not None:
        yield from ((f"[{index}]", item) for index, item in enumerate(held))


def stable_settings(value: Any) -> dict[str, Any]:
    """Return the settings that can change the result, as plain data: what a fingerprint is made of."""
    plain = encode(value)

    def strip(node: Any, data: Any) -> Any:
        if not is_dataclass(node) or not isinstance(data, dict):
            return data
        hints = setting_hints(type(node))
        kept = (name for name in data if not any(isinstance(mark, Volatile) for mark in marks(hints[name])))
        return {name: strip(getattr(node, name), data[name]) for name in kept}

    stripped: dict[str, Any] = strip(value, plain)
    return stripped


_EXPECTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda fault: "a whole number",
    "int_from_float": lambda fault: "a whole number",
    "float_type": lambda fault: "a number",
    "string_type": lambda fault: "text in quotes",
    "bool_type": lambda fault: "true or false",
    "dict_type": lambda fault: "a table",
    "dataclass_type": lambda fault: "a table",
    "list_type": lambda fault: "an array",
    "tuple_type": lambda fault: "an array",
    "literal_error": lambda fault: fault["ctx"]["expected"],
}


def _explain(cls: type[Any], fault: Any, where: str) -> str:
    """Turn one fault of pydantic into our sentence: where, what was found, what is accepted."""
    location = [str(part) for part in fault["loc"]]
    path = ".".join([where, *location] if where else location)
    kind = fault["type"]
    if kind == "missing":
        return f"{path}: is missing and has no safe default"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        accepted = _accepted_keys(cls, location[:-1])
        return f"{path}: unknown setting{did_you_mean(location[-1], accepted)}; accepted here: {', '.join(accepted) or 'none'}"
    if kind in _EXPECTED:
        return f"{path}: found {fault['input']!r}, expected {_EXPECTED[kind](fault)}"
    return f"{path}: found {fault['input']!r}: {fault['msg'].removeprefix('Value error, ')}"


def _accepted_keys(cls: Any, location: list[str]) -> list[str]:
    """Return the field names of the settings class at this place, walking through nested classes."""
    for part in location:
        if is_dataclass(cls) and isinstance(cls, type):
            hint = setting_hints(cls).get(part)
            nested = [candidate for candidate in _flatten(hint) if is_dataclass(candidate)]
            cls = nested[0] if nested else hint
    return [field.name for field in fields(cls)] if is_dataclass(cls) else []


def _flatten(hint: Any) -> Iterator[Any]:
    yield hint
    for argument in get_args(hint):
        yield from _flatten(argument)
