"""`herdling fit` as a program and a person read it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from herdling.base.errors import SettingsError
from herdling.cli.fit import app
from tests.plan.made_ladder import made_ladder, write_ladder
from tests.plan.made_mixes import made_mixes, write_mixes
from tests.plan.made_sweep import TRUTH, made_sweep, write_sweep


def fitted(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_has_both_fits_their_intervals_and_their_disagreement(tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "runs.csv", made_sweep(noise=1e-3))
    found = json.loads(fitted("isoflop", str(file), "--json", "--bootstraps", "40", "--at", "3.8e25", "--at", "1e21"))
    assert set(found["isoflop"]["tokens_at"]) == {"3.8e25", "1e21"}
    assert found["isoflop"]["alpha"] == pytest.approx(1 - TRUTH.parameter_exponent, abs=0.05)
    low, high = found["isoflop"]["intervals"]["tokens_at"]["1e21"]
    assert low < found["isoflop"]["tokens_at"]["1e21"] < high
    assert found["parametric"]["intervals"]["jackknife"]["alpha"][0] < found["parametric"]["alpha"]
    assert found["disagreement"]["1e21"]["tokens_ratio"] == pytest.approx(1, abs=0.3)
    assert found["held_out"]["mean_relative_error"] < 0.01
    assert found["convention"] == {"N": "C/6D", "C": "6ND"}


def test_table_says_what_was_fitted_and_how_well(tmp_path: Path) -> None:
    shown = fitted("isoflop", str(write_sweep(tmp_path / "runs.csv", made_sweep(noise=1e-3))), "--bootstraps", "40")
    for words in ("tokens = ", "3.8e25", "disagreement", "the largest budget left out", "outliers: keep"):
        assert words in shown


def test_runs_without_budgets_have_the_parametric_fit(tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "runs.csv", made_sweep(noise=1e-3))
    found = json.loads(fitted("parametric", str(file), "--json", "--bootstraps", "40", "--outliers", "highest:2"))
    assert found["isoflop"] is None
    assert len(found["outliers"]["dropped_lines"]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compute_budget,training_tokens,validation_loss\n6e18,1e9,2.5\n6e18,2e9,2.4\n", "line 2, 3: the budget 6e+18 has 2 runs"),
        ("compute_budget,training_tokens,validation_loss\n6e18,1e9,nan\n", "line 2: validation_loss is nan"),
    ],
)
def test_failure_is_a_message_without_traceback_or_torch(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "runs.csv").write_text(text, encoding="utf-8")
    code = "import sys\nfrom herdling.cli.main import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules\n"
    result = subprocess.run([sys.executable, "-c", code, "fit", "isoflop", str(tmp_path / "runs.csv")], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_ladder_forecasts_and_scores_the_larger_runs(tmp_path: Path) -> None:
    file = write_ladder(tmp_path / "ladder.csv", made_ladder(noise=3e-3))
    found = json.loads(fitted("ladder", str(file), "--largest", "1e9", "--task", "easy", "--task", "hard", "--json"))
    assert set(found["runs"]["1e+10-20x"]["tasks"]) == {"easy", "hard"}
    assert found["mean_relative_error"] < 0.05
    shown = fitted("ladder", str(file), "--largest", "1e9")
    assert "exponents of all tasks" in shown
    assert "mean error" in shown


def test_unknown_form_names_the_forms(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected shared, per_task, llama3"):
        fitted("ladder", str(write_ladder(tmp_path / "ladder.csv", made_ladder())), "--form", "other")


def test_served_tokens_ask_for_a_smaller_model(tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "runs.csv", made_sweep(noise=1e-3))
    found = json.loads(fitted("isoflop", str(file), "--at", "1e22", "--served", "1e13", "--bootstraps", "20", "--json"))
    assert found["serving"]["1e22"]["parameters"] < found["parametric"]["parameters_at"]["1e22"]
    assert 0 < found["serving"]["1e22"]["saved_compute"] < 1
    assert "tokens served" in fitted("parametric", str(file), "--served", "1e13", "--bootstraps", "20")


def test_parabolas_stand_where_the_law_does_not(tmp_path: Path) -> None:
    lines = ["compute_budget,training_tokens,validation_loss"]
    lines += [f"{c},{t},{3 + 0.1 * math.log(t / 3e9) ** 2 + 0.2 * math.log10(c / 1e18)}" for c in (1e18, 1e19, 1e20) for t in (1e9, 2e9, 4e9, 8e9)]
    (tmp_path / "runs.csv").write_text("\n".join(lines), encoding="utf-8")
    found = json.loads(fitted("isoflop", str(tmp_path / "runs.csv"), "--json", "--bootstraps", "20"))
    assert found["isoflop"]["tokens_at"]["3.8e25"] == pytest.approx(3e9, rel=0.01)
    assert found["parametric"] is None or found["parametric"]["alpha"] > 0
    assert fitted("isoflop", str(tmp_path / "runs.csv"), "--bootstraps", "20")


def test_plans_past_the_optimum_and_within_the_data_are_given_with_their_cost(tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "runs.csv", made_sweep(noise=1e-3))
    options = ("--at", "1e22", "--tokens-per-parameter", "500", "--max-tokens", "20B", "--bootstraps", "20")
    found = json.loads(fitted("isoflop", str(file), *options, "--json"))
    over, limited = found["over_trained"]["1e22"], found["limited"]["1e22"]
    assert over["tokens"] / over["parameters"] == pytest.approx(500)
    assert over["serving_cost"] < 1 < limited["serving_cost"]
    assert limited["tokens"] == pytest.approx(2e10)
    assert 0 < over["wasted_compute"] < 1
    assert "of the compute wasted" in fitted("isoflop", str(file), *options)


def test_mixes_are_ranked_with_their_chance(tmp_path: Path) -> None:
    file = write_mixes(tmp_path / "mixes.csv", made_mixes(noise=2e-3))
    found = json.loads(fitted("mixes", str(file), "--json", "--at", "1e21", "--tokens-per-parameter", "20"))
    assert found["best"] == "half code"
    assert found["at"]["tokens"] / found["at"]["parameters"] == pytest.approx(20)
    assert json.loads(fitted("mixes", str(file), "--json", "--weight", "code=1"))["best"] == "code"
    assert "half code is the best" in fitted("mixes", str(file))
    with pytest.raises(SettingsError, match="expected SOURCE=WEIGHT"):
        fitted("mixes", str(file), "--weight", "code")


def test_every_kind_of_fit_draws_its_picture(tmp_path: Path) -> None:
    sweep = str(write_sweep(tmp_path / "runs.csv", made_sweep(noise=1e-3)))
    kinds = {
        "isoflop": (sweep, "--bootstraps", "20"),
        "parametric": (sweep, "--bootstraps", "20"),
        "ladder": (str(write_ladder(tmp_path / "ladder.csv", made_ladder(noise=3e-3))),),
        "mixes": (str(write_mixes(tmp_path / "mixes.csv", made_mixes(noise=2e-3))),),
    }
    for kind, arguments in kinds.items():
        fitted(kind, *arguments, "--picture", str(tmp_path / "pictures" / f"{kind}.svg"))
        assert ElementTree.parse(tmp_path / "pictures" / f"{kind}.svg").getroot().tag.endswith("svg")
    with pytest.raises(SettingsError, match=r"ends in \.svg"):
        fitted("isoflop", sweep, "--picture", str(tmp_path / "a.png"))
