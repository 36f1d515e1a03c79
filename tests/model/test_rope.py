"""Rotary positions against the formula written out with complex numbers, and the stretch of Llama 3.1 against its three cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from herdling.model.config import LlamaConfig, RopeScalingConfig
from herdling.model.rope import RopeTable, rope_frequencies, rotate

CONFIG = LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8)


def test_turning_is_a_complex_product_of_each_half_split_pair():
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    turned = rotate(x, RopeTable(CONFIG).angles(None, 5, x))
    for position in range(5):
        for pair in range(4):
            angle = position * 10_000.0 ** (-2 * pair / 8)
            expected = torch.complex(x[:, :, position, pair], x[:, :, position, pair + 4]) * complex(math.cos(angle), math.sin(angle))
            torch.testing.assert_close(torch.complex(turned[:, :, position, pair], turned[:, :, position, pair + 4]), expected, atol=1e-6, rtol=0)


def test_compiled_and_eager_turn_alike(monkeypatch):
    x = torch.randn(2, 3, 5, 8)
    restarting = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]])
    eager = [rotate(x, RopeTable(CONFIG).angles(positions, 5, x)) for positions in (None, restarting)]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close([rotate(x, RopeTable(CONFIG).angles(positions, 5, x)) for positions in (None, restarting)], eager)


def test_the_stretch_keeps_short_waves_slows_long_ones_and_blends_between():
    plain_config = replace(CONFIG, head_dim=128, rope_theta=500_000.0)
    plain = rope_frequencies(plain_config)
    stretched = rope_frequencies(replace(plain_config, rope_scaling=RopeScalingConfig()))
    for frequency, found in zip(plain.tolist(), stretched.tolist(), strict=True):
        wavelength = 2 * math.pi / frequency
        if wavelength < 2048:
            assert found == frequency
        elif wavelength > 8192:
            assert found == pytest.approx(frequency / 8)
        else:
            kept = (8192 / wavelength - 1) / 3
            assert found == pytest.approx((1 - kept) * frequency / 8 + kept * frequency)


def test_angles_of_far_positions_are_those_of_float32_also_in_bfloat16():
    table = RopeTable(replace(CONFIG, max_position_embeddings=8192))
    cos, _ = table.angles(torch.tensor([[8191]]), 1, torch.zeros(1, dtype=torch.bfloat16))
    assert cos[0, 0, 0, 0].item() == pytest.approx(math.cos(8191), abs=4e-3)


def test_position_ids_choose_rows_of_the_same_table():
    table, like = RopeTable(CONFIG), torch.zeros(1)
    whole, chosen = table.angles(None, 6, like), table.angles(torch.tensor([[4, 2], [0, 5]]), 2, like)
    for every, some in zip(whole, chosen, strict=True):
        torch.testing.assert_close(some[:, 0], every[0, 0][torch.tensor([[4, 2], [0, 5]])])
