"""The recipes of the rounds: in miniature and at the papers' sizes they decode, are in order, and each round learns from all judgements to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from herdling.base.decode import inputs_of, stable_settings
from herdling.recipe import Runner, load_recipe
from herdling.recipe.graph import needed_for, ordered
from herdling.recipe.lineage import State
from tests.architecture.test_reference import ROOT

FOLDER = ROOT / "src" / "herdling" / "recipes"
RECIPES = ("llama2-chat-mini", "llama3-instruct-mini", "llama2-chat", "llama3-instruct")


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_orders_every_stage_before_any_data_is_there(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(FOLDER / f"{name}.toml")
    plan = Runner(recipe=recipe, runs=tmp_path / "runs").plan()
    order = [stage for stage, _, _ in plan]
    assert order == ordered(recipe.stages)
    assert {state for _, state, _ in plan} == {State.TO_DO}
    for stage in order:
        assert all(order.index(reference[1:]) < order.index(stage) for _, reference, _ in inputs_of(recipe.stages[stage]) if reference.startswith("@"))
    missing = [line for _, _, lines in plan for line in lines]
    assert bool(missing) is not name.endswith("-mini")  # the miniatures bring all they need


@pytest.mark.parametrize("name", ["quickstart", "assistant", *RECIPES])
def test_nothing_is_made_that_nobody_reads(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.toml")
    assert set(needed_for(["report"], recipe.stages)) | {"evaluate", "retention"} >= set(recipe.stages)


@pytest.mark.parametrize("name", ["assistant", "llama2-chat-mini", "llama3-instruct-mini"])
def test_the_miniatures_begin_with_the_quickstarts_base_model(name: str) -> None:
    quickstart, mini = load_recipe(FOLDER / "quickstart.toml"), load_recipe(FOLDER / f"{name}.toml")
    for stage in ("prepare_data", "train_tokenizer", "tokenize", "pretrain"):
        assert stable_settings(quickstart.stages[stage]) == stable_settings(mini.stages[stage])


@pytest.mark.parametrize(
    ("name", "rewards", "sets", "rounds"),
    [
        ("llama2-chat-mini", ("reward_v{}",), ("helpful_v{}",), 3),
        ("llama2-chat-mini", ("reward_safety_v{}",), ("helpful_v{}", "safe_v{}"), 3),
        ("llama2-chat", ("reward_v{}", "reward_safety_v{}"), ("helpful_v{}", "safe_v{}"), 5),
        ("llama3-instruct-mini", ("reward_v{}",), ("helpful_v{}", "safe_v{}"), 3),
        ("llama3-instruct", ("reward_{}_a", "reward_{}_b"), ("round_{}",), 6),
    ],
)
def test_reward_models_learn_from_all_judgements_to_date(name: str, rewards: tuple[str, ...], sets: tuple[str, ...], rounds: int) -> None:
    stages: Any = load_recipe(FOLDER / f"{name}.toml").stages
    for number in range(1, rounds + 1):
        expected = {one.format(earlier) for earlier in range(1, number + 1) for one in sets}
        for reward in rewards:
            comparisons = stages[reward.format(number)].comparisons
            assert set(comparisons) - {"open_helpful", "open_harmless"} == expected
            assert all(reference == f"@{known}" for known, reference in comparisons.items())


@pytest.mark.parametrize("name", ["llama2-chat-mini", "llama2-chat"])
def test_samples_of_all_earlier_versions_stay_in_the_pool(name: str) -> None:
    stages: Any = load_recipe(FOLDER / f"{name}.toml").stages
    versions = [number for number in range(1, 6) if f"samples_v{number}" in stages]
    for number in versions:
        assert set(stages[f"samples_v{number}"].earlier or ()) == {f"v{k}" for k in range(1, number)}


@pytest.mark.parametrize("name", RECIPES)
def test_models_of_a_judgement_stand_from_the_earliest_to_the_latest(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.toml")
    order = ordered(recipe.stages)
    judged: list[Any] = [stage for stage in recipe.stages.values() if stage.kind == "judge"]
    assert len(judged) >= 3
    for stage in judged:
        places = [order.index(reference[1:]) for reference in stage.models.values()]
        assert places == sorted(places)


def test_the_watch_is_a_reward_model_that_no_policy_learns_from() -> None:
    for name in RECIPES:
        recipe = load_recipe(FOLDER / f"{name}.toml")
        readers = {stage.kind for stage in recipe.stages.values() if any(reference == "@watch" for _, reference, _ in inputs_of(stage))}
        assert readers <= {"judge", "report"}, name
