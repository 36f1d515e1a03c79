"""The Python sources of the packages that herdling itself needs (torch, sympy, numpy, ...): far more text than the standard library, wherever it runs.

About 90 MB: enough for runs that must not read a text many times, as a scaling law's. Files are read, never imported. The versions of the packages are part of
what a text was made from (`edition`), so another torch is another text, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from herdling.base.errors import DataError
from herdling.base.ledger import Ledger
from herdling.starter.installation import Module, module_name

ROOT = "herdling"
LARGEST_FILE = 256 * 1024
"""A larger file is a table that a program wrote, seldom a text."""
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@cache
def needed_packages() -> tuple[Distribution, ...]:
    """Return the installed packages that herdling needs, and those that they need, by name; extras are not among them."""
    found: dict[str, Distribution] = {}
    waiting = [ROOT]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # needed on another system, or by another Python
            continue
        needs = (need for need in found[name].requires or () if "extra ==" not in need)
        waiting += [match[0] for need in needs if (match := _NAME.match(need))]
    found.pop(ROOT, None)
    return tuple(found[name] for name in sorted(found))


def edition() -> str:
    """Return which packages these are, with their versions."""
    return " ".join(f"{package.name}=={package.version}" for package in needed_packages())


def package_texts(ledger: Ledger, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, source) of every package, in an order that mixes them; the library's `folder` is not read.

    Raises:
        DataError: none of the packages is there as files.
    """
    modules = _modules()
    if not modules:
        raise DataError("starter:packages: the packages that herdling needs are not installed as files; name texts of your own in the recipe")
    for module in modules:
        try:
            yield module.name, module.read()
        except DataError as error:
            ledger.read()
            ledger.drop("not readable as Python", str(error))


@cache
def _modules() -> tuple[Module, ...]:
    """Return the source files, by the digest of their names."""
    files = ((package, file) for package in needed_packages() for file in package.files or () if file.suffix == ".py" and ".." not in file.parts)
    found = [Module(module_name(Path(*file.parts)), Path(str(package.locate_file(file)))) for package, file in files]
    fitting = (module for module in found if module.path.is_file() and module.path.stat().st_size <= LARGEST_FILE)
    return tuple(sorted(fitting, key=lambda module: sha256(module.name.encode()).digest()))
