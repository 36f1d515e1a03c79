"""The roofline of a layer: bytes and FLOPs by hand, with all scalars at one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from herdling.model.config import LlamaConfig
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import find_gpu
from herdling.plan.layer_time import attention_seconds, layer_seconds, moved_bytes, product_seconds
from herdling.plan.split import Job, Split, Stack

A100, H100 = find_gpu("a100-80gb"), find_gpu("h100")
TINY = LlamaConfig(vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
JOB = Job(model=TINY, seq_len=256, global_batch=32)
EXACT = Efficiency(matmul=1.0, attention=1.0, thin=0.0, short=0.0, memory=1.0, launch=0.0)


def test_products_are_six_flops_a_weight_and_token_and_eight_where_all_is_made_again() -> None:
    weights = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64  # queries and output, keys and values, feed-forward, norms
    assert product_seconds(JOB, Split(), A100, EXACT) == pytest.approx(6 * weights * 256 / 271e12)
    assert product_seconds(JOB, Split(recompute="full"), A100, EXACT) == pytest.approx(8 * weights * 256 / 271e12)
    assert product_seconds(JOB, Split(tp=2), A100, EXACT) == pytest.approx(3 * weights * 256 / 271e12)


def test_flash_attention_works_on_the_causal_half_at_its_kernels_own_ceiling() -> None:
    flops = 3.5 * 2 * 256 * 64 * 256  # forward 2 and backward 5 products of s / 2 keys
    assert attention_seconds(JOB, Split(), Stack(attention="flash2"), A100, EXACT) == pytest.approx(flops / 190e12)
    assert attention_seconds(JOB, Split(), Stack(attention="flash1"), A100, EXACT) == pytest.approx(2 * flops / 190e12)
    assert attention_seconds(JOB, Split(), Stack(attention="newest"), A100, EXACT) == pytest.approx(flops / 190e12)  # there is none for A100
    assert attention_seconds(JOB, Split(), Stack(attention="newest"), H100, EXACT) == pytest.approx(flops / 560e12)
    assert attention_seconds(replace(JOB, attended=64.0), Split(), Stack(attention="flash2"), A100, EXACT) == pytest.approx(flops / 4 / 190e12)


def test_unfused_attention_goes_through_memory() -> None:
    products = 3 * 4 * 256 * 64 * 256 / (271e12 * 0.77)
    scores = 4 * 256 * 256 / 2039e9
    fused, eager, again = (attention_seconds(JOB, Split(), Stack(attention="unfused", score_bytes=score_bytes), A100, EXACT) for score_bytes in (2.0, 5.0, 0.0))
    assert fused == pytest.approx(products + 20 * scores)
    assert eager == pytest.approx(products + 60 * scores)
    assert again == pytest.approx(4 / 3 * (products + 20 * scores))  # Korthikanti et al.: scores are not kept but made again


def test_pointwise_bytes_by_hand() -> None:
    # Two norms (4 + 8) and residuals (6 + 6) of width 64; rotations of queries and keys (4 + 4); gates of width 128 (10 + 16).
    assert moved_bytes(JOB, Split(), Stack()) == 2 * (12 + 12) * 64 + 8 * (64 + 32) + 26 * 128
    assert moved_bytes(JOB, Split(), Stack(compiled=True)) == 2 * (12 + 12) * 64 + 8 * (64 + 32) + 16 * 128
    assert moved_bytes(JOB, Split(), Stack(fused_norms=False)) == 2 * (114 + 12) * 64 + 8 * (64 + 32) + 26 * 128
    assert moved_bytes(JOB, Split(recompute="full"), Stack()) == moved_bytes(JOB, Split(), Stack()) + 2 * (4 + 6) * 64 + 4 * (64 + 32) + 10 * 128
    whole = moved_bytes(JOB, Split(tp=2, sequence_parallel=False), Stack()) - moved_bytes(JOB, Split(tp=2), Stack())
    assert whole == 2 * (12 + 12) * 32  # without sequence parallelism each rank norms all of the width


def test_casts_to_fp8_are_counted_for_inputs_and_outputs() -> None:
    cast = moved_bytes(replace(JOB, precision="fp8"), Split(), Stack()) - moved_bytes(JOB, Split(), Stack())
    inputs, outputs = 64 + 64 + 64 + 128, 64 + 32 + 32 + 64 + 2 * 128 + 64
    assert cast == 6 * (inputs + outputs)


def test_a_ring_hides_its_exchange_behind_attention() -> None:
    long = Job(model=TINY, seq_len=65_536, global_batch=32)
    gathered = layer_seconds(long, Split(cp=8), Stack(), H100, EXACT)
    ring = layer_seconds(long, Split(cp=8), Stack(ring=True), H100, EXACT)
    assert ring[0] == gathered[0]
    assert ring[2] < gathered[2]
