"""The recipe ghost-attention-mini begins as the assistant's does, and its two models differ in Ghost Attention alone."""

from __future__ import annotations

from herdling.base.decode import stable_settings
from herdling.recipe import load_recipe
from tests.architecture.test_reference import ROOT
from tests.recipe.test_rewards_mini import SHARED


def test_its_first_stages_are_the_assistants_to_the_last_setting() -> None:
    assistant, ghost = (load_recipe(ROOT / "src" / "herdling" / "recipes" / f"{name}.toml") for name in ("assistant", "ghost-attention-mini"))
    assert assistant.seed == ghost.seed
    for name in SHARED:
        assert assistant.stages[name].kind == ghost.stages[name].kind
        assert stable_settings(assistant.stages[name]) == stable_settings(ghost.stages[name])


def test_the_model_with_ghost_attention_is_trained_as_the_one_without_but_for_its_dialogs() -> None:
    stages = load_recipe(ROOT / "src" / "herdling" / "recipes" / "ghost-attention-mini.toml").stages
    without, with_ghost = (stable_settings(stages[name]) for name in ("sft", "sft_ghost"))
    assert with_ghost.pop("data") == {"dialogs": without.pop("data"), "ghost": "@ghost_attention"}
    assert with_ghost == without
