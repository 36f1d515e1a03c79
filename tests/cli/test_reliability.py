"""The forecast of a run on GPUs that fail, as a user meets it: a page to read, JSON, a picture, and refusals that say what is accepted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from herdling.base.errors import HerdlingError
from herdling.cli.main import app

COMMAND = ["plan", "--reliability"]


def herdling(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys\nfrom herdling.cli.main import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    return subprocess.run([sys.executable, "-c", code, *COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


def test_llama3_is_explained_with_its_pauses_stated(tmp_path: Path) -> None:
    done = herdling(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("93.6% of the time is useful: 15.6T tokens take 74.3 days")
    assert "with a pause of 5 s; a restart takes 5m 00s" in done.stdout
    assert "419 failures in 54 days: GPU 64.0%" in done.stdout


def test_json_and_picture(tmp_path: Path) -> None:
    done = herdling("--json", "--picture", "made/share.svg", "--set", "recovery.repair_seconds=86400", cwd=tmp_path)
    answer = json.loads(done.stdout)["reliability"]
    assert answer["efficiency"] == pytest.approx(0.936, abs=1e-3)
    assert answer["simulated_efficiency"] == pytest.approx(answer["efficiency"], abs=0.002)
    assert sum(answer["shares"].values()) == pytest.approx(1.0)
    assert answer["days_interval"][0] < answer["days"] < answer["days_interval"][1]
    assert answer["spares"]["servers"] > 0
    assert [row["restart_seconds"] is None for row in answer["longest_restart"]] == [False] * 5 + [True] * 2
    assert ElementTree.parse(tmp_path / "made" / "share.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_failures_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("component,category,count\nGPU,GPU,8\nSwitch,Network,2\n")
    sizes = ["--set", "failures.file='own.csv'", "--set", "failures.num_gpus=1024", "--set", "failures.days=10"]
    done = herdling(*sizes, "--gpus", "512", "--tokens", "50B", "--set", "forecast.tokens_per_second=1e5", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["reliability"]["mean_seconds_between_failures"] == pytest.approx(2 * 86400)


def test_a_planned_run_is_forecast_at_the_planned_speed(tmp_path: Path) -> None:
    done = herdling("llama3.1-8b", "--gpus", "256", "--tokens", "1T", "--json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    speed = answer["splits"][0]["tokens_per_s_per_gpu"] * 256
    fails = answer["reliability"]
    assert fails["days"] == pytest.approx(1e12 / speed / fails["efficiency"] / 86400)
    assert fails["mean_seconds_between_failures"] == pytest.approx(11135 * 64, rel=1e-3)


def test_an_interval_that_is_set_is_kept_beside_the_best(tmp_path: Path) -> None:
    done = herdling("--set", "failures.mtbf_seconds=11135", "--set", "saving.interval_seconds=3600", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)["reliability"]["what_if"]
    assert [row["change"] for row in rows[:2]] == ["as planned", "at the best interval"]
    assert rows[0]["interval_seconds"] == 3600
    assert rows[1]["interval_seconds"] == pytest.approx(330, abs=1)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--set", "failures.mtbf_seconds=0"], "failures.mtbf_seconds: found 0, expected seconds, more than 0"),
        (["--set", "saving.pause_seconds=-1"], "saving.pause_seconds: found -1"),
        (["--set", "saving.pause_second=1"], "did you mean 'pause_seconds'?"),
        (["--set", "savin.pause_seconds=1"], "did you mean 'saving'?"),
        (["--set", "saving"], "expected a line such as saving.pause_seconds=5"),
        (["--set", 'rates.server="often"'], "a number of events a second"),
        (["--set", "saving.interval_seconds=1e9"], "nothing would ever be saved"),
        (["--set", "failures.mtbf_seconds=5"], "does not come forward"),
        (["--set", "failures.file='none.csv'"], "--set failures.num_gpus=N"),
        (["--set", "failures.file='none.csv'", "--set", "failures.mtbf_seconds=5"], "Give one of them"),
        (["--set", "failures.days=3"], "belong to a file of counted failures"),
        (["--set", "forecast.target=1"], "target: found 1"),
        (["llama3.1-8b"], "Add --tokens"),
        (["llama3.1-8b", "--for", "serve", "--tokens", "1T"], "leave out --for serve"),
        (["--tokens", "many"], "--tokens: found 'many'"),
    ],
)
def test_refusals_say_what_is_accepted(arguments: list[str], fault: str) -> None:
    refused = CliRunner().invoke(app, [*COMMAND, *arguments]).exception
    assert isinstance(refused, HerdlingError)
    assert fault in str(refused)


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = herdling("--set", "failures.mtbf_seconds=0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: failures.mtbf_seconds: found 0, expected seconds, more than 0\n"


def test_settings_of_reliability_without_it_are_refused() -> None:
    refused = CliRunner().invoke(app, ["plan", "llama3.1-8b", "--set", "saving.pause_seconds=1"]).exception
    assert isinstance(refused, HerdlingError)
    assert "belong to --reliability" in str(refused)
