"""What is written about the code is true of the code: settings, names, commands, paths."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import herdling
from herdling.recipe import load_recipe
from herdling.stages.registry import MODULES, stage_class

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import reference_pages  # noqa: E402

PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "changes").glob("*.md"))] if "_build" not in path.parts]
MAX_HELP_LINES = 40


def test_every_public_name_is_there_and_documented() -> None:
    assert {"load", "load_tokenizer", "run"} <= set(herdling.__all__)
    for name in herdling.__all__:
        assert getattr(herdling, name).__doc__, name


def test_every_setting_is_documented() -> None:
    missing = [
        f"{title}.{setting.name}"
        for title, cls in reference_pages.settings_classes().items()
        for setting in reference_pages.settings_of(cls)
        if not setting.doc
    ]
    assert missing == []


@pytest.mark.parametrize("kind", reference_pages.KINDS)
def test_stage_tells_its_method_in_its_own_file(kind: str) -> None:
    cls = stage_class(kind, "test")
    assert cls.__module__ == MODULES[kind]
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # what a dataclass without a docstring gets


@pytest.mark.parametrize("kind", reference_pages.KINDS)
def test_story_and_start_mention_each_stage(kind: str) -> None:
    for page in ("story.md", "start.md"):
        assert f"`{kind}`" in (ROOT / "docs" / page).read_text(encoding="utf-8"), page


def test_every_path_that_a_page_names_is_there() -> None:
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`((?:src|docs|tests|recipes|benchmarks|changes)/[^`\s*]*)`", text)
        named += [target for target in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in target]
        missing += [f"{page.name}: {name}" for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()]
    assert missing == []


def test_every_command_that_a_page_names_is_there() -> None:
    from typer.main import get_command

    from herdling.cli.main import app

    commands = {f"herdling {name}" for name in get_command(app).commands}  # type: ignore[attr-defined]
    targets = {f"make {name}" for name in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)}
    unknown = []
    for page in PAGES:
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL))
        named = re.findall(r"(?:^|[\s`$/])(herdling [a-z]+)\b(?![./(])", code) + re.findall(r"(?:^|[\s`$])(make [a-z-]+)", code)
        unknown += [f"{page.name}: {name}" for name in named if name not in commands | targets]
    assert unknown == []


def test_help_fits_one_screen_and_starts_without_torch() -> None:
    code = "import sys\nsys.argv = ['herdling', '--help']\nfrom herdling.cli.main import app\ntry:\n    app()\nfinally:\n    assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) <= MAX_HELP_LINES
    for verb in ("quickstart", "new", "run", "show", "chat"):
        assert f" {verb} " in result.stdout


def test_every_recipe_that_comes_along_is_valid() -> None:
    recipes = sorted((ROOT / "src" / "herdling" / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).name == path.stem


def test_every_toml_example_of_the_docs_is_toml() -> None:
    examples = [example for page in PAGES for example in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    assert examples
    for example in examples:
        assert tomllib.loads(example)


def test_every_python_example_of_the_docs_parses_and_uses_public_names() -> None:
    for page in PAGES:
        for example in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            tree = ast.parse(example)
            used = {
                node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "herdling"
            }
            assert used <= set(herdling.__all__), page


def test_no_page_and_no_source_names_a_place_of_work() -> None:
    for path in [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert "/" + "work/" not in path.read_text(encoding="utf-8"), path
