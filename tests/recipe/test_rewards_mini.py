"""The recipe rewards-mini begins as the assistant's does, so that its finished stages can be taken over."""

from __future__ import annotations

from herdling.base.decode import stable_settings
from herdling.recipe import load_recipe
from tests.architecture.test_reference import ROOT

SHARED = ("prepare_data", "train_tokenizer", "tokenize", "pretrain", "sft")


def test_its_first_stages_are_the_assistants_to_the_last_setting() -> None:
    assistant, rewards = (load_recipe(ROOT / "src" / "herdling" / "recipes" / f"{name}.toml") for name in ("assistant", "rewards-mini"))
    assert assistant.seed == rewards.seed
    for name in SHARED:
        assert assistant.stages[name].kind == rewards.stages[name].kind
        assert stable_settings(assistant.stages[name]) == stable_settings(rewards.stages[name])
