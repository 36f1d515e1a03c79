"""Facts about the standard library that a program can check, read from the sources on disk.

A fact is one public function or class of a well-known module: where it lives, what it does (the first sentence of its docstring, when that is short) and
which parameters it takes. Read by `ast`, in the order of `MODULES`, so that the same Python gives the same facts; a module that this version does not have
is passed over. Costs about 1 s.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from herdling.base.errors import DataError
from herdling.starter.installation import Module, library_modules

_MODULE_NAMES = (
    "abc ast base64 bisect bz2 calendar cmd code codecs collections colorsys compileall configparser contextlib copy csv ctypes.util dataclasses datetime"
    " decimal difflib dis doctest email.header email.message email.utils enum filecmp fileinput fnmatch fractions ftplib functools getopt getpass gettext glob"
    " graphlib gzip hashlib heapq hmac html html.parser http.client http.cookies http.server imaplib importlib inspect ipaddress json keyword linecache locale"
    " logging logging.config logging.handlers lzma mailbox mimetypes netrc numbers operator optparse os os.path pathlib pdb pickle pickletools pkgutil platform"
    " plistlib poplib pprint profile pstats pty py_compile pyclbr queue quopri random re reprlib sched secrets selectors shelve shlex shutil signal smtplib"
    " socket socketserver sqlite3 ssl stat statistics string struct subprocess symtable sysconfig tabnanny tarfile tempfile textwrap threading timeit token"
    " tokenize tomllib trace traceback tracemalloc turtle types typing unittest urllib.error urllib.parse urllib.request urllib.robotparser uuid venv warnings"
    " wave weakref webbrowser wsgiref.util xml.dom xml.etree.ElementTree xml.sax xmlrpc.client zipapp zipfile zoneinfo"
)
MODULES = tuple(_MODULE_NAMES.split())
"""Modules that people use, whose sources are Python. Their text is never held out: a question about them must be answerable."""

MIN_FACTS = 60
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,'/()_-]+\.")
_SELF = re.compile(r"^(self|cls)\b(, /)?(, )?")
MIN_SENTENCE, MAX_SENTENCE = 12, 60
MAX_PARAMETERS = 3

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One public name of the library. Empty `sentence` or absent `parameters`: nothing short enough to ask about."""

    module: str
    name: str
    kind: Literal["function", "class"]
    sentence: str
    parameters: tuple[str, ...] | None
    unique: bool
    """No other known module has this name: `which module has X` has one answer."""

    @property
    def symbol(self) -> str:
        """The full name: `textwrap.dedent`."""
        return f"{self.module}.{self.name}"


@cache
def facts(folder: Path | None = None) -> tuple[Fact, ...]:
    """Return all facts of this installation, in the order of `MODULES` and of the sources. Raises `DataError` when there are too few to ask about."""
    modules = {module.name: module for module in library_modules(folder)}
    found = [node for name in MODULES if name in modules for node in _public(modules[name])]
    how_often = Counter(node.name for _, node in found)
    result = tuple(fact for module, node in found if (fact := _fact(module, node, how_often[node.name] == 1)))
    if len(result) < MIN_FACTS:
        raise DataError(
            f"only {len(result)} facts could be read from this Python's standard library (at least {MIN_FACTS} are needed): its sources or docstrings are"
            " stripped. Use a usual CPython, or give the recipe dialogs of your own"
        )
    return result


def _public(module: Module) -> Iterable[tuple[str, Definition]]:
    """Yield (module, definition) for the public functions and classes at the top of a module, each name once."""
    tree = module.parse()
    exported = _exported(tree)
    seen: set[str] = set()
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_") and node.name not in seen and (exported is None or node.name in exported):
            seen.add(node.name)
            yield module.name, node


def _exported(tree: ast.Module) -> set[str] | None:
    """Return the names in `__all__`, or None when the module states none that can be read."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            constants = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            return {name for name in constants if isinstance(name, str)}
    return None


def _fact(module: str, node: Definition, unique: bool) -> Fact | None:
    sentence = first_sentence(ast.get_docstring(node) or "")
    short = sentence if MIN_SENTENCE <= len(sentence) <= MAX_SENTENCE and _PLAIN.fullmatch(sentence) else ""
    kind: Literal["function", "class"] = "class" if isinstance(node, ast.ClassDef) else "function"
    names = None if isinstance(node, ast.ClassDef) else parameters(node)
    fact = Fact(module=module, name=node.name, kind=kind, sentence=short, parameters=names, unique=unique)
    return fact if short or unique else None


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring, on one line: `Remove any common leading whitespace.`"""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    sentence = _SENTENCE_END.split(paragraph)[0]
    return "" if sentence.endswith(("e.g.", "i.e.", "etc.")) or sentence.count("(") != sentence.count(")") else sentence


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...] | None:
    """Return the names of a function's parameters; None when they are too many to say, private, or open (`*args`)."""
    arguments = node.args
    if arguments.vararg or arguments.kwarg:
        return None
    names = tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
    return names if len(names) <= MAX_PARAMETERS and not any(name.startswith("_") for name in names) else None


def signature(node: Definition) -> str:
    """Return the parameters of a function or of a class's `__init__` as written, without `self`: `(text, width=70)`."""
    if isinstance(node, ast.ClassDef):
        constructor = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        return signature(constructor) if constructor else ""
    return "(" + _SELF.sub("", ast.unparse(node.args)) + ")"
