"""Scripts of the benchmarks as modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import pytest

from tests.architecture.test_reference import ROOT


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Import a script by its name; those beside it are found by theirs."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        try:
            return import_module(name)
        finally:
            sys.path.remove(str(ROOT / "benchmarks"))

    return load
