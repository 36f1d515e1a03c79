"""The command line as a user meets it: exit codes, messages with the next command, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
name = "toy"
[stages.prepare_data]
sources = { songs = "songs" }
min_validation_documents = 1
"""


def herdling(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from herdling.cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "songs").mkdir()
    for number in range(4):
        (tmp_path / "songs" / f"{number}.txt").write_text(f"Song number {number}. " * 20)
    (tmp_path / "toy.toml").write_text(RECIPE)
    return tmp_path


def test_help_fits_one_screen_and_names_every_verb(project: Path) -> None:
    done = herdling("--help", cwd=project)
    assert done.returncode == 0
    assert {"quickstart", "new", "run", "show", "chat"} <= set(done.stdout.split())
    assert len(done.stdout.splitlines()) < 24


def test_a_run_prints_its_results_to_stdout_and_its_progress_to_stderr(project: Path) -> None:
    done = herdling("run", "toy.toml", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "prepare_data: done in" in done.stderr
    assert "What was made" in done.stdout


def test_a_dry_run_says_what_would_be_done_and_does_nothing(project: Path) -> None:
    done = herdling("run", "toy.toml", "--dry-run", cwd=project)
    assert done.returncode == 0
    assert done.stdout.split() == ["prepare_data", "to", "do"]
    assert not (project / "runs").exists()


def test_changed_settings_end_with_the_command_that_redoes_the_stage(project: Path) -> None:
    herdling("run", "toy.toml", cwd=project)
    changed = ["--set", "stages.prepare_data.validation_share=0.5"]
    refused = herdling("run", "toy.toml", *changed, cwd=project)
    assert refused.returncode == 1
    assert "validation_share: was 0.01, now 0.5" in refused.stderr
    assert "herdling run toy.toml --force prepare_data" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert herdling("run", "toy.toml", *changed, "--force", "prepare_data", cwd=project).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "none.toml"], 1, "no such recipe"),
        (["run", "toy.toml", "--set", "stages.prepare_data.sorces=1"], 1, "did you mean 'sources'?"),
        (["run", "toy.toml", "--set", "nonsense"], 1, "expected KEY=VALUE"),
        (["run", "toy.toml", "sft"], 1, "no stage is called 'sft'"),
        (["run", "toy.toml", "--unknown"], 2, "No such option"),
        (["chat", "nowhere"], 1, "nowhere"),
    ],
)
def test_a_wrong_call_says_what_and_how_to_mend_it(project: Path, arguments: list[str], code: int, said: str) -> None:
    done = herdling(*arguments, cwd=project)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_new_copies_a_recipe_under_its_own_name_and_never_overwrites(project: Path) -> None:
    assert herdling("new", "My Run.toml", cwd=project).returncode == 0
    assert 'name = "my-run"' in (project / "My Run.toml").read_text()
    again = herdling("new", "My Run.toml", cwd=project)
    assert again.returncode == 1
    assert "is not overwritten" in again.stderr
    assert "did you mean 'quickstart'?" in herdling("new", "x.toml", "--like", "quikstart", cwd=project).stderr
