from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.base.errors import SettingsError
from herdling.generate.sampling import check_sampling, logprobs_of, nucleus, sample_tokens
from herdling.types import Sampling

# Probabilities 0.5, 0.25, 0.125, 0.125 in mixed order: exact in binary, so limits can be met exactly.
LOGITS = torch.tensor([[math.log(0.125), math.log(0.5), math.log(0.125), math.log(0.25)]])


def allowed(top_p: float = 1.0, top_k: int = 0) -> dict[int, float]:
    probabilities, ids = nucleus(LOGITS, top_p=[top_p], top_k=[top_k])
    return {token: round(p, 6) for token, p in zip(ids[0].tolist(), probabilities[0].tolist(), strict=True) if p > 0}


def test_top_p_keeps_each_token_whose_preceding_mass_is_at_most_p() -> None:
    assert allowed(top_p=0.0) == {1: 0.5}
    assert allowed(top_p=0.49) == {1: 0.5}
    assert allowed(top_p=0.501) == {1: 0.5, 3: 0.25}
    assert allowed(top_p=0.74) == {1: 0.5, 3: 0.25}
    assert len(allowed(top_p=0.76)) == 3


def test_top_k_keeps_the_k_likeliest_and_top_p_counts_mass_among_them() -> None:
    assert allowed(top_k=1) == {1: 0.5}
    assert allowed(top_k=2) == {1: 0.5, 3: 0.25}
    assert allowed(top_k=2, top_p=0.6) == {1: 0.5}  # among two, the first holds 2/3
    assert len(allowed(top_k=100)) == 4


def test_a_nucleus_wider_than_the_first_look_is_found_whole() -> None:
    flat = torch.zeros(1, 1000)
    probabilities, _ = nucleus(flat, top_p=[0.9], top_k=[0])
    assert int((probabilities > 0).sum()) in (900, 901)
    probabilities, _ = nucleus(flat, top_p=[1.0], top_k=[700])
    assert int((probabilities > 0).sum()) == 700


def test_temperature_zero_takes_the_likeliest() -> None:
    assert sample_tokens(LOGITS, [Sampling(temperature=0)], [0.99]).tolist() == [1]


def test_of_equally_likely_tokens_greedy_takes_the_first_in_each_row() -> None:
    logits = torch.zeros(2, 1000)
    logits[0, [300, 7, 999]] = 2.5
    assert sample_tokens(logits, [Sampling(temperature=0)] * 2, [0.5, 0.5]).tolist() == [7, 0]


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.124, 0), (0.126, 1), (0.624, 1), (0.626, 2), (0.76, 3), (0.9999999, 3)])
def test_plain_sampling_inverts_the_distribution_function(uniform: float, token: int) -> None:
    assert sample_tokens(LOGITS, [Sampling(temperature=1, top_p=1)], [uniform]).tolist() == [token]


def test_temperature_sharpens() -> None:
    # At temperature 1/2 probabilities are squared: 16, 4, 1, 1 of 22.
    sampling = Sampling(temperature=0.5, top_p=0.99)
    assert sample_tokens(LOGITS, [sampling], [15.9 / 22]).tolist() == [1]
    assert sample_tokens(LOGITS, [sampling], [16.1 / 22]).tolist() == [3]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(0, 40), st.floats(0.05, 3), st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_a_row_draws_the_same_token_whatever_stands_beside_it(seed: int, top_p: float, top_k: int, temperature: float, uniform: float) -> None:
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(seed)) * 3
    mine = Sampling(temperature=temperature, top_p=top_p, top_k=top_k)
    others = [Sampling(temperature=0), Sampling(temperature=1, top_p=1), Sampling(temperature=2, top_k=3), Sampling()]
    together = sample_tokens(logits, [mine, *others], [uniform, 0.1, 0.5, 0.9, 0.3])
    alone = sample_tokens(logits[:1], [mine], [uniform])
    assert together[0] == alone[0]


def test_frequencies_follow_the_probabilities() -> None:
    draws = 4000
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(0)).tolist()
    tokens = sample_tokens(LOGITS.expand(draws, -1), [Sampling(temperature=1, top_p=0.999)] * draws, uniforms)
    shares = torch.bincount(tokens, minlength=4) / draws
    assert torch.allclose(shares, LOGITS.exp()[0], atol=0.03)


def test_logprobs_are_the_models_own() -> None:
    assert torch.allclose(logprobs_of(LOGITS * 1.0, torch.tensor([3])), torch.tensor([math.log(0.25)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ("",)}, "stop"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_sampling(Sampling(**change))
