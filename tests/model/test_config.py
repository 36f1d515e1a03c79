"""Shapes, and counts against figures that were worked out by hand or stand in the papers."""

from __future__ import annotations

import pytest
import torch

from herdling.base.decode import decode, encode
from herdling.base.errors import ModelError, SettingsError
from herdling.model.config import LlamaConfig, feed_forward_size
from herdling.model.presets import PRESETS, preset
from herdling.model.transformer import Llama

# LLaMA, table 2; Llama 2, table 1; Llama 3, table 3; the 1B and 3B: the model cards of Llama 3.2 (1.24B, 3.21B), counted from the published shapes.
PARAMETERS = {
    "llama1-7b": 6_738_415_616,
    "llama1-13b": 13_015_864_320,
    "llama1-33b": 32_528_943_616,
    "llama1-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
}
TINY = LlamaConfig(
    vocab_size=10, hidden_size=4, intermediate_size=6, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=2, tie_word_embeddings=True
)


def test_each_size_of_the_papers_has_a_preset():
    assert set(PRESETS) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_those_of_the_papers_and_of_the_module_itself(name):
    with torch.device("meta"):
        model = Llama(PRESETS[name])
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[name]
    assert PRESETS[name].num_parameters() == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [("llama1-7b", 524_288), ("llama2-70b", 327_680), ("llama3.1-8b", 131_072), ("llama3.1-70b", 327_680), ("llama3.1-405b", 516_096)],
)
def test_cache_bytes_are_those_of_the_papers(name, bytes_per_token):
    assert PRESETS[name].kv_cache_bytes_per_token() == bytes_per_token


def test_flops_of_a_tiny_model_are_what_the_hand_counts():
    # A block: q 4x4, k 4x2, v 4x2, o 4x4 = 48; gate, up, down 3 * 4 * 6 = 72. Two blocks 240, output 10 * 4 = 40: 280 weights, 560 FLOPs forward.
    # Attention: 2 layers * 2 heads * head_dim 2 * (2 for scores + 2 for the sum) = 32 FLOPs a key. At T = 5: 5 keys, or (1+2+3+4+5)/5 = 3 on average.
    assert TINY.flops_per_token(5, "full") == 3 * (560 + 32 * 5) == 2160
    assert TINY.flops_per_token(5, "causal") == 3 * (560 + 32 * 3) == 1968
    # Even T: (1+2+3+4)/4 = 2.5 keys.
    assert TINY.flops_per_token(4) == 3 * (560 + 80) == 1920


def test_flops_of_llama_2_7b_are_what_the_hand_counts():
    # 6 * (all weights - embedding 131,072,000 - gains 65 * 4,096) + 12 * layers 32 * width 4,096 * keys.
    matrices = 6 * (6_738_415_616 - 131_072_000 - 266_240)
    assert matrices == 39_642_464_256
    assert PRESETS["llama2-7b"].flops_per_token(4096, "full") == matrices + 12 * 32 * 4096 * 4096 == 46_084_915_200
    assert PRESETS["llama2-7b"].flops_per_token(4096, "causal") == matrices + 6 * 32 * 4096 * 4097 == 42_864_476_160


def test_flops_of_the_405b_times_its_tokens_are_the_papers_budget():
    # Llama 3 section 3.2.1: 3.8e25 FLOPs on 15.6T tokens.
    assert PRESETS["llama3.1-405b"].flops_per_token(8192) * 15.6e12 == pytest.approx(3.8e25, rel=0.05)


@pytest.mark.parametrize(
    ("hidden", "multiple", "multiplier", "width"),
    [(4096, 256, None, 11_008), (6656, 256, None, 17_920), (8192, 4096, 1.3, 28_672), (4096, 1024, 1.3, 14_336), (16_384, 4096, 1.2, 53_248)],
)
def test_the_width_of_swiglu_is_the_papers(hidden, multiple, multiplier, width):
    assert feed_forward_size(hidden, multiple_of=multiple, multiplier=multiplier) == width


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_key_value_heads": 3}, "multiple"),
        ({"head_dim": 3}, "even"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"rope_scaling": {"factor": 0.5}}, "factor"),
        ({"rope_scaling": {"low_freq_factor": 4.0}}, "less than"),
    ],
)
def test_an_impossible_shape_is_refused_with_its_values(change, says):
    with pytest.raises(SettingsError, match=says):
        decode(LlamaConfig, encode(TINY) | change, "model")


def test_settings_survive_the_way_to_plain_data_and_back():
    config = PRESETS["llama3.1-8b"]
    assert decode(LlamaConfig, encode(config), "model") == config


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(ModelError, match=r"did you mean 'llama2-7b'"):
        preset("lama2-7b")
