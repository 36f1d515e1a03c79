"""Facts read by `ast` are what Python itself says of the same names."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.starter.facts import facts, first_sentence, parameters, signature

# Importing these has no effect beyond defining names, and no function of theirs is replaced by one in C with other words.
HARMLESS = (
    "textwrap",
    "statistics",
    "tempfile",
    "urllib.parse",
    "difflib",
    "shlex",
    "fnmatch",
    "glob",
    "colorsys",
    "shutil",
    "keyword",
    "html",
    "base64",
    "calendar",
)


def test_facts_agree_with_what_python_says_of_the_same_names() -> None:
    checked = 0
    for fact in facts():
        if fact.module not in HARMLESS:
            continue
        named = getattr(importlib.import_module(fact.module), fact.name)
        if fact.sentence:
            assert " ".join((inspect.getdoc(named) or "").split()).startswith(fact.sentence[:-1])
        if fact.parameters is not None:
            assert tuple(inspect.signature(named).parameters) == fact.parameters
        checked += 1
    assert checked > 40


def test_there_are_hundreds_of_short_facts_in_many_modules() -> None:
    short = [fact for fact in facts() if fact.sentence]
    assert len(short) > 300
    assert len({fact.module for fact in short}) > 60
    assert len({fact.symbol for fact in facts()}) == len(facts())


def test_a_name_is_unique_only_when_no_other_module_has_it() -> None:
    by_symbol = {fact.symbol: fact for fact in facts()}
    assert by_symbol["textwrap.dedent"].unique
    assert not by_symbol["bz2.compress"].unique


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Do it.\n\nMore.", "Do it."),
        ("Do it. Then rest.", "Do it."),
        ("Do it\n    over lines.", "Do it over lines."),
        ("Do (this. And that).", ""),
        ("Do some, e.g. this.", ""),
        ("", ""),
    ],
)
def test_the_first_sentence_is_whole_or_nothing(docstring: str, sentence: str) -> None:
    assert first_sentence(docstring) == sentence


@pytest.mark.parametrize(
    ("source", "names", "text"),
    [
        ("def f(): pass", (), "()"),
        ("def f(a, b=1): pass", ("a", "b"), "(a, b=1)"),
        ("def f(a, /, *, k): pass", ("a", "k"), "(a, /, *, k)"),
        ("def f(*args): pass", None, "(*args)"),
        ("def f(a, b, c, d): pass", None, "(a, b, c, d)"),
        ("def f(self, a): pass", ("self", "a"), "(a)"),
        ("def f(self): pass", ("self",), "()"),
        ("def f(selfish): pass", ("selfish",), "(selfish)"),
    ],
)
def test_parameters_and_signatures_by_hand(source: str, names: tuple[str, ...] | None, text: str) -> None:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert parameters(node) == names
    assert signature(node) == text


def test_a_python_without_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 0 facts could be read"):
        facts(tmp_path)
