"""The dial gives shapes near what was asked, that the model can be, with figures that move the right way."""

from __future__ import annotations

import pytest

from herdling.base.errors import SettingsError
from herdling.model.dial import SHAPES, dial, dial_flops, dial_tokens, learning_rate


@pytest.mark.parametrize("parameters", [1e6, 2e6, 5e6, 15e6, 50e6, 100e6, 1e9])
def test_the_size_is_near_what_was_asked(parameters):
    made = dial(parameters, vocab_size=4096)
    assert made.config.num_parameters() == pytest.approx(parameters, rel=0.35)
    assert made.batch_tokens % made.sequence_length == 0


def test_larger_models_learn_slower_and_see_more_in_larger_batches():
    made = [dial(10**power, vocab_size=4096) for power in (6, 7, 8, 9)]
    assert [one.lr for one in made] == sorted((one.lr for one in made), reverse=True)
    assert [one.batch_tokens for one in made] == sorted(one.batch_tokens for one in made)
    assert [one.num_tokens for one in made] == sorted(one.num_tokens for one in made)


def test_the_learning_rate_meets_the_papers_at_7b():
    assert learning_rate(7_000_000_000) == pytest.approx(3e-4, rel=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_has_whole_heads_and_the_papers_ratio(shape):
    hidden, intermediate, layers, heads, key_heads = shape
    assert hidden % heads == 0
    assert heads % key_heads == 0
    assert intermediate / hidden == pytest.approx(8 / 3, rel=0.06)
    assert 20 <= hidden / layers <= 100


def test_budgets_of_tokens_and_of_flops_agree():
    made = dial(16e6, vocab_size=4096)
    assert dial_tokens(made.num_tokens, vocab_size=4096) == made
    assert dial_flops(6 * made.config.num_parameters() * made.num_tokens, vocab_size=4096) == made


def test_beyond_the_dial_there_are_presets():
    with pytest.raises(SettingsError, match="llama2-7b"):
        dial(7e9, vocab_size=32_000)
