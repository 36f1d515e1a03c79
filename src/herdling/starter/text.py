"""The built-in texts: four named sources of real English and Python that stand on the user's own disk.

    library      the sources of the standard library                     about 9 MB
    docstrings   every docstring, under its signature, by module         about 2 MB
    topics       the language reference, as `help()` shows it            about 0.3 MB
    packages     the sources of the packages that herdling needs         about 90 MB

Each document says in `metadata["split"]` whether it is for training or validation. The split follows the module, so the docstring of a held-out function
stands neither in `docstrings` nor in `library`; the modules that the dialogs ask about (`facts.MODULES`) are always for training. Nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from herdling.base.errors import DataError, did_you_mean
from herdling.base.ledger import Ledger
from herdling.starter.facts import MODULES, Definition, signature
from herdling.starter.installation import Module, library_folder, library_modules
from herdling.starter.packages import edition, package_texts
from herdling.types import Document

VALIDATION_SHARE = {"library": 0.05, "docstrings": 0.05, "topics": 0.15, "packages": 0.02}
SPLIT_NAME = "x"
"""Names the split among all splits of this kind; chosen so that every source of CPython 3.11 keeps back at least 60 KB, before any model was scored."""
MIN_CHARACTERS = 200
TOPICS_FILE = Path("pydoc_data") / "topics.py"


def documents(name: str, ledger: Ledger | None = None, *, folder: Path | None = None) -> Iterator[Document]:
    """Yield the documents of a built-in source, always in the same order. `folder` is the library to read, by default that of the running Python.

    Raises:
        DataError: no source of this name, or this Python installation does not hold its text.
    """
    if name not in SOURCES:
        raise DataError(f"starter:{name}: no built-in source of this name{did_you_mean(name, SOURCES)}; there are: {', '.join(SOURCES)}")
    book = ledger or Ledger(f"starter:{name}")
    for identity, text in SOURCES[name](book, folder or library_folder()):
        book.read()
        if len(text) < MIN_CHARACTERS:
            book.drop("nearly empty", identity)
            continue
        book.keep()
        split = "validation" if is_held_out(name, identity) else "train"
        yield Document(text=text, id=f"{name}/{identity}", source=name, metadata={"split": split})


def made_from(name: str) -> str:
    """Return what the text of a source depends on: the version of Python, and of the packages where it is theirs."""
    return f"{sys.version} {edition()}" if name == "packages" else sys.version


def is_held_out(source: str, identity: str) -> bool:
    """Say whether a module (or topic) is kept out of training: by the digest of its name, so a new Python version moves no old one."""
    if identity in MODULES:
        return False
    kind = "topic" if source == "topics" else "module"
    digest = int.from_bytes(hashlib.sha256(f"{SPLIT_NAME}{kind}:{identity}".encode()).digest()[:8], "big")
    return digest / 2**64 < VALIDATION_SHARE[source]


def library_texts(ledger: Ledger, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, source)."""
    for module in library_modules(folder):
        try:
            yield module.name, module.read()
        except DataError as error:
            _set_aside(ledger, error)


def docstring_texts(ledger: Ledger, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, its docstrings under their signatures)."""
    for module in library_modules(folder):
        try:
            text = reference_page(module)
        except DataError as error:
            _set_aside(ledger, error)
            continue
        if text:
            yield module.name, text


def topic_texts(ledger: Ledger, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (topic, text). The topics repeat each other's sections: each paragraph is kept once, in the longest topic that has it."""
    path = folder / TOPICS_FILE
    if not path.is_file():
        raise DataError(
            f"{path}: this Python comes without the topics of help(). Install them (Debian: apt install libpython3-stdlib),"
            " or leave 'starter:topics' out of the recipe"
        )
    tree = Module("pydoc_data.topics", path).parse()
    assigned = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    topics: dict[str, str] = ast.literal_eval(assigned[-1]) if assigned else {}
    seen: set[str] = set()
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        paragraphs = [part for part in dict.fromkeys(text.strip().split("\n\n")) if part not in seen]
        seen.update(part for part in paragraphs if len(part) > 40)
        yield name, "\n\n".join(paragraphs) + "\n"


def _set_aside(ledger: Ledger, error: DataError) -> None:
    ledger.read()
    ledger.drop("not readable as Python", str(error))


def reference_page(module: Module) -> str:
    """Return the docstrings of a module under their signatures, in the order of the source; empty when it has none."""
    tree = module.parse()
    entries = []
    if summary := ast.get_docstring(tree):
        entries.append(f"module {module.name}\n{textwrap.indent(inspect.cleandoc(summary), '    ')}\n")
    entries += _entries(tree.body, module.name)
    return "\n".join(entries)


def _entries(body: list[ast.stmt], owner: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, Definition) or (node.name.startswith("_") and not node.name.startswith("__")):
            continue
        name = f"{owner}.{node.name}"
        if docstring := ast.get_docstring(node):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield f"{kind} {name}{signature(node)}\n{textwrap.indent(docstring, '    ')}\n"
        if isinstance(node, ast.ClassDef):
            yield from _entries(node.body, name)


SOURCES: dict[str, Callable[[Ledger, Path], Iterator[tuple[str, str]]]] = {
    "library": library_texts,
    "docstrings": docstring_texts,
    "topics": topic_texts,
    "packages": package_texts,
}
