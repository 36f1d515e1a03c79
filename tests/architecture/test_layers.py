"""The plan of the house: imports point down, no circles, no torch at the start, one idea a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "herdling"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400
WITHOUT_IDEA = {"utils", "util", "common", "helpers", "misc", "core"}
# What a user waits for at each call of the command line: none of it may wait for torch.
TORCH_FREE = ("base", "types", "tokenizer", "recipe", "stages", "report", "cli")
# Neighbours of a stage that it imports when it runs, not when a recipe is read.
AT_WORK = {"herdling.stages.best_answers", "herdling.stages.ppo_models", "herdling.stages.sweep_runs"}


def modules(*folders: str) -> list[str]:
    """Return the dotted names of all modules below these folders (or single files)."""
    found = []
    for source in SOURCES:
        parts = source.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] in folders:
            found.append(".".join(part for part in parts if part != "__init__"))
    return found


def test_imports_point_down_and_never_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0


def test_nothing_that_the_command_line_starts_with_imports_torch() -> None:
    code = (
        f"import sys, importlib\nfor name in {[name for name in modules(*TORCH_FREE) if name not in AT_WORK]!r}:\n    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules and 'transformers' not in sys.modules, name + ' imports torch'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_herdling_itself_imports_without_torch() -> None:
    code = "import herdling, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(PACKAGE).as_posix())
def test_file_is_short_enough_to_read_and_named_for_its_idea(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) < MAX_LINES
    assert source.stem not in WITHOUT_IDEA


@pytest.mark.parametrize("folder", sorted(path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"), ids=lambda path: path.name)
def test_folders_are_two_deep(folder: Path) -> None:
    # Pages and migrations are no rooms: nobody imports them, and the libraries that read them want a folder.
    deeper = {path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert deeper <= {"web": {"pages", "static", "guidelines"}, "preference": {"migrations"}}.get(folder.name, set())
