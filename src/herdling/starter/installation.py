"""The user's own Python installation, seen as texts: which modules it has, where, and what they say.

Files are read and parsed, never imported (`import antigravity` opens a browser). Works on any layout that has the library's sources as files: CPython's own,
pyenv's, Debian's, in or outside a virtual environment. Costs about 3 s for the whole library when every module is parsed, 0.2 s when only listed.
"""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from herdling.base.errors import DataError

# Not the library itself (packages installed beside it, its tests, the editor), or tables of numbers rather than text.
EXCLUDED_FOLDERS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "lib-dynload",
        "test",
        "tests",
        "idle_test",
        "idlelib",
        "encodings",
        "pydoc_data",
        "msilib",
        "__phello__",
        "_bundled",
    }
)
EXCLUDED_FILES = frozenset({"this.py", "entities.py", "stringprep.py", "sitecustomize.py", "usercustomize.py"})
EXCLUDED_PREFIXES = ("_sysconfigdata", "__phello__", "config-")
# Known to users by another name than their file's.
PUBLIC_NAMES = {"posixpath": "os.path"}


@dataclass(frozen=True, slots=True, order=True)
class Module:
    """One source file of the library: the name to import it by, and its path."""

    name: str
    path: Path

    def read(self) -> str:
        """Return its source, decoded as Python would (PEP 263), with `\\n` line ends. Raises `DataError` when it is not Python text."""
        try:
            data = self.path.read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            return data.decode(encoding).replace("\r\n", "\n")
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: cannot be read as Python source ({error})") from None

    def parse(self) -> ast.Module:
        """Return its syntax tree. Raises `DataError` when this Python cannot parse it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old modules hold invalid escapes: their business, not the user's
                return ast.parse(self.read())
        except (SyntaxError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be parsed ({error})") from None


@cache
def library_folder() -> Path:
    """Return the folder of the standard library. Raises `DataError` when it is not there as files (an embedded or zipped Python)."""
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / "textwrap.py").is_file():
        raise DataError(
            f"{folder}: this Python keeps no sources of its standard library here, so the built-in texts cannot be read."
            " Use a usual CPython (python.org, pyenv, a distribution's python3), or name texts of your own in the recipe"
        )
    return folder


def library_modules(folder: Path | None = None) -> Iterator[Module]:
    """Yield the modules of the library in the order of their names, the same on every machine with the same files."""
    root = folder or library_folder()
    yield from sorted(_modules_under(root, root))


def _modules_under(root: Path, folder: Path) -> Iterator[Module]:
    for path in folder.iterdir():
        if path.name.startswith(EXCLUDED_PREFIXES):
            continue
        if path.is_dir() and path.name not in EXCLUDED_FOLDERS and path.name.isidentifier():
            yield from _modules_under(root, path)
        elif path.suffix == ".py" and path.name not in EXCLUDED_FILES:
            yield Module(module_name(path.relative_to(root)), path)


def module_name(relative: Path) -> str:
    """Return the name that a file of the library is imported by: `json/__init__.py` -> `json`, `posixpath.py` -> `os.path`."""
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return PUBLIC_NAMES.get(name, name)
