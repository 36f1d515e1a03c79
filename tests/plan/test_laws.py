"""Laws of loss by name and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdling.base.errors import DataError, SettingsError
from herdling.plan.laws import LAWS, find_law


def test_chinchillas_law_spends_its_own_budget_as_its_authors_did() -> None:
    # Hoffmann et al., 2022: 5.76e23 FLOPs went into 70B parameters and 1.4T tokens; Besiroglu et al.'s refit gives 20 tokens a parameter there.
    optimum = find_law("chinchilla").law.allocate(5.76e23)
    assert optimum.parameters == pytest.approx(70e9, rel=0.15)
    assert optimum.tokens_per_parameter == pytest.approx(20, rel=0.3)


def test_llama_3s_points_put_their_budget_where_the_reference_fit_does() -> None:
    optimum = find_law("llama3").law.allocate(3.8e25)
    assert optimum.tokens == pytest.approx(10.2e12, rel=0.02)
    assert optimum.parameters == pytest.approx(622e9, rel=0.02)


def test_a_law_knows_where_it_was_not_measured() -> None:
    assert "extrapolated" in LAWS["chinchilla"].doubt(1e6)
    assert LAWS["chinchilla"].doubt(1e9) == ""


def test_a_fit_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    constants = {"E": 1.0, "A": 10.0, "B": 20.0, "alpha": 0.3, "beta": 0.4}
    (tmp_path / "fit.json").write_text(json.dumps({"isoflop": {}, "parametric": {**constants, "objective": 0.1}}))
    assert find_law(str(tmp_path)).law.as_dict() == constants
    assert find_law(str(tmp_path / "fit.json")).law.as_dict() == constants
    assert find_law(str(tmp_path)).doubt(1e3) == ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parametric": null}', '{"parametric": {"E": 1, "A": "much", "B": 1, "alpha": 1, "beta": 1}}'])
def test_a_file_without_a_law_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fit.json").write_text(text)
    with pytest.raises(DataError, match="holds no parametric law"):
        find_law(str(tmp_path / "fit.json"))


def test_impossible_laws_and_unknown_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text('{"E": 1, "A": -3, "B": 1, "alpha": 0.3, "beta": 0.3}')
    with pytest.raises(DataError, match="above 0"):
        find_law(str(tmp_path))
    with pytest.raises(SettingsError, match="did you mean 'chinchilla'"):
        find_law("chinchila")
