"""Settings that a recipe leaves out: the papers' figures for the papers' sizes, the dial's for small ones."""

from __future__ import annotations

import pytest

from herdling.model.presets import PRESETS
from herdling.train.size import dpo_size, ppo_size, reward_size, sft_size, size_of


@pytest.mark.parametrize("name", ["llama2-7b", "llama3.1-405b", "llama3.2-1b"])
def test_fine_tuning_a_size_of_the_papers_takes_the_rate_and_rows_of_llama_2(name):
    assert (sft_size(PRESETS[name]).lr, sft_size(PRESETS[name]).rows) == (2e-5, 64)


def test_the_largest_reward_models_learn_half_as_fast():
    assert (reward_size(PRESETS["llama2-7b"]).lr, reward_size(PRESETS["llama2-70b"]).lr) == (1e-5, 5e-6)
    assert reward_size(PRESETS["llama2-70b"]).batch_pairs == 512


def test_a_small_model_is_tuned_at_half_the_rate_that_it_was_trained_at():
    size = size_of("1M", vocab_size=4096, config=None, where="stages.pretrain")
    assert sft_size(size.config).lr == size.lr / 2
    assert sft_size(size.config).rows == 8


@pytest.mark.parametrize(("name", "beta"), [("llama2-7b", 0.01), ("llama2-13b", 0.01), ("llama1-33b", 0.005), ("llama2-70b", 0.005)])
def test_the_two_larger_models_of_llama_2_pay_half_as_much_for_leaving_the_reference(name, beta):
    assert (ppo_size(PRESETS[name]).lr, ppo_size(PRESETS[name]).beta) == (1e-6, beta)


@pytest.mark.parametrize("name", ["llama2-7b", "llama3.1-405b", "llama3.2-1b"])
def test_dpo_takes_the_rate_of_llama_3_for_sizes_of_the_papers(name):
    assert dpo_size(PRESETS[name]).lr == 1e-5


def test_a_small_model_prefers_at_a_fraction_of_the_rate_that_it_was_tuned_at():
    size = size_of("1M", vocab_size=4096, config=None, where="stages.pretrain")
    assert dpo_size(size.config).lr == pytest.approx(sft_size(size.config).lr / 15)
