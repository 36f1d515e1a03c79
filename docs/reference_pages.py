"""Reference pages from the code: every setting of every stage with the docstring under it, and the help of every command.

python docs/reference_pages.py settings|commands|changes       prints a page
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from herdling.base.decode import Input, Volatile, setting_hints
from herdling.base.decode import marks as marks_of
from herdling.stages.registry import MODULES, stage_class

ROOT = Path(__file__).parent.parent
# Stages of others (tests register toys) are not ours to document.
KINDS = [kind for kind, module in MODULES.items() if module.startswith("herdling.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as the reference shows it. `default` is None where there is no safe one."""

    name: str
    accepts: str
    default: str | None
    volatile: bool
    doc: str


def settings_classes() -> dict[str, type[Any]]:
    """Return title -> class: each stage, then each table of settings that a stage holds."""
    found: dict[str, type[Any]] = {kind: stage_class(kind, "docs") for kind in KINDS}
    waiting = list(found.values())
    while waiting:
        for nested in _nested(waiting.pop(0)):
            if nested not in found.values():
                found[nested.__name__] = nested
                waiting.append(nested)
    return found


def settings_of(cls: type[Any]) -> list[Setting]:
    """Return the settings of a class in the order they are written."""
    docs, hints = field_docs(cls), setting_hints(cls)
    return [
        Setting(
            name=field.name,
            accepts=accepted(hints[field.name]),
            default=_default(field),
            volatile=any(isinstance(mark, Volatile) for mark in marks_of(hints[field.name])),
            doc=docs.get(field.name, ""),
        )
        for field in fields(cls)
    ]


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Return field -> the string written under it, of a class and of what it inherits from."""
    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if owner.__module__.startswith("herdling"):
            docs |= _docs_in_source(owner)
    return docs


def _docs_in_source(cls: type[Any]) -> dict[str, str]:
    tree = ast.parse(Path(inspect.getfile(cls)).read_text(encoding="utf-8"))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    docs = {}
    for line, below in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[line.target.id] = inspect.cleandoc(str(below.value.value))
    return docs


def accepted(hint: Any) -> str:
    """Say in words what a setting accepts."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        found = [mark for mark in arguments[1:] if isinstance(mark, Input)]
        return (f"an artifact: {found[0]}" if found[0].kinds else str(found[0])) if found else accepted(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{_toml(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(accepted(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        return "an array of " + (" and ".join(dict.fromkeys(accepted(argument) for argument in arguments if argument is not Ellipsis)) or "anything")
    if origin is dict or (isinstance(origin, type) and issubclass(origin, dict)):
        return f"a table of {accepted(arguments[1])}"
    if is_dataclass(hint) and isinstance(hint, type):
        return f"a table: [{hint.__name__}](#{hint.__name__.lower()})"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a table", list: "an array"}
    return words.get(hint, str(getattr(hint, "__name__", hint)))


def _nested(cls: type[Any]) -> Iterator[type[Any]]:
    def walk(hint: Any) -> Iterator[type[Any]]:
        if is_dataclass(hint) and isinstance(hint, type):
            yield hint
        for argument in get_args(hint):
            yield from walk(argument)

    for hint in setting_hints(cls).values():
        yield from walk(hint)


def _default(field: Field[Any]) -> str | None:
    value = field.default
    if value is MISSING and field.default_factory is not MISSING:
        value = field.default_factory()
    factory = getattr(value, "default_factory", None)  # a pydantic Field standing as the default
    value = factory() if factory is not None else getattr(value, "default", value) if type(value).__name__ == "FieldInfo" else value
    if value is MISSING or type(value).__name__ == "PydanticUndefinedType":
        return None
    return "its own defaults" if is_dataclass(value) else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)


def settings_page() -> str:
    """Return the reference of all settings as MyST Markdown."""
    parts = []
    for title, cls in settings_classes().items():
        parts.append(f"## {title}\n\n{inspect.getdoc(cls) or ''}\n")
        for setting in settings_of(cls):
            default = "**must be given**" if setting.default is None else f"default {setting.default}"
            stays_out = "; cannot change the result" if setting.volatile else ""
            doc = "\n  ".join(setting.doc.splitlines())
            parts.append(f"`{setting.name}`\n: {doc}\n\n  Accepts {setting.accepts}; {default}{stays_out}.\n")
    return "\n".join(parts)


def commands_page() -> str:
    """Return the help of every command as MyST Markdown."""
    from typer.main import get_command
    from typer.testing import CliRunner

    app = import_module("herdling.cli.main").app
    runner = CliRunner()

    def help_of(*words: str) -> str:
        text = runner.invoke(app, [*words, "--help"], prog_name="herdling", terminal_width=84, env={"COLUMNS": "84", "NO_COLOR": "1"}).output
        return dedent("\n".join(line.rstrip() for line in text.splitlines())).strip("\n")

    names = get_command(app).list_commands(None)  # type: ignore[attr-defined, arg-type]
    parts = [f"```text\n{help_of()}\n```\n"]
    parts += [f"## herdling {name}\n\n```text\n{help_of(name)}\n```\n" for name in names]
    return "\n".join(parts)


def changes_page() -> str:
    """Return all change notes, the newest first."""
    notes = sorted((ROOT / "changes").glob("[0-9]*.md"), reverse=True)
    return "\n\n".join(note.read_text(encoding="utf-8").replace("\n# ", "\n## ").removeprefix("# ").join(("## ", "")) for note in notes)


if __name__ == "__main__":
    print({"settings": settings_page, "commands": commands_page, "changes": changes_page}[sys.argv[1]]())
