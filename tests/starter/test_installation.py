"""The standard library is found, named and read without importing any of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.starter.installation import Module, library_modules, module_name


def test_modules_are_named_as_users_import_them() -> None:
    assert module_name(Path("json/__init__.py")) == "json"
    assert module_name(Path("json/decoder.py")) == "json.decoder"
    assert module_name(Path("posixpath.py")) == "os.path"


def test_the_library_is_listed_in_order_without_tests_and_installed_packages() -> None:
    names = [module.name for module in library_modules()]
    assert names == sorted(names)
    assert {"textwrap", "json", "collections", "os.path", "xml.etree.ElementTree"} <= set(names)
    assert not any(name.split(".")[0] in {"test", "site-packages", "dist-packages", "pip"} for name in names)


def test_reading_facts_and_texts_imports_nothing_of_them() -> None:
    script = "import sys; from herdling.starter.facts import facts; from herdling.starter.text import documents; facts(); list(documents('docstrings'));"
    script += "print([name for name in ('antigravity', 'this', 'turtle', 'smtplib', 'webbrowser', 'pydoc_data.topics') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_a_source_in_its_own_encoding_is_read_by_its_cookie(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nname = 'ü'\r\n".encode("latin-1"))
    assert Module("old", path).read().endswith("name = 'ü'\n")


@pytest.mark.parametrize(("data", "said"), [(b"\xff\xfe\x00x", "cannot be read"), (b"def f(:\n", "cannot be parsed"), (b"x = '\x00'\n", "cannot be parsed")])
def test_what_is_no_python_says_so_with_its_path(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"broken.py: {said}"):
        Module("broken", path).parse()
