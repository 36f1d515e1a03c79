"""What GPUs exchange: bytes by hand over the line's rate."""

from __future__ import annotations

import pytest

from herdling.model.presets import preset
from herdling.plan.communication import context_seconds, pipeline_seconds, sharding_bytes, sharding_seconds, step_bytes, tensor_seconds
from herdling.plan.hardware import find_gpu
from herdling.plan.memory import layer_parameters
from herdling.plan.split import Job, Split, Stack

H100 = find_gpu("h100")
LARGE = Job(model=preset("llama3.1-405b"), seq_len=8192, global_batch=2048)


def test_volumes_of_communication_by_hand() -> None:
    hidden = 2 * 8192 * 16_384  # bytes of a micro-batch's hidden states in bfloat16
    assert tensor_seconds(LARGE, Split(tp=8), H100) == pytest.approx(4 * 2 * 7 / 8 * hidden / 450e9)
    assert tensor_seconds(LARGE, Split(tp=8, recompute="full"), H100) == pytest.approx(6 * 2 * 7 / 8 * hidden / 450e9)
    keys = 2 * 2 * 8 * 128 / 8 * 8192 / 2  # bytes of keys and values of a rank's tokens
    assert context_seconds(LARGE, Split(tp=8, cp=2), H100) == pytest.approx(3 * keys / 50e9)
    assert pipeline_seconds(LARGE, Split(tp=8, pp=16), Stack(), H100) * 126 / 16 == pytest.approx(2 * hidden / 8 / 50e9)


def test_fsdp_gathers_twice_and_reduces_once() -> None:
    parameters = 126 * layer_parameters(LARGE.model) + 128_256 * 16_384
    volume = (2 * 2 + 4) * parameters * 7 / 8  # bfloat16 weights forward and backward, float32 gradients
    assert sharding_seconds(LARGE, Split(dp=8), Stack(), H100, 126) == pytest.approx(volume / 450e9)
    assert sharding_seconds(LARGE, Split(), Stack(), H100, 126) == 0.0


def test_what_a_step_sends_by_hand() -> None:
    split = Split(tp=8, cp=2, pp=16, dp=64, virtual_stages=7)  # 32 micro-batches of 4,096 tokens a GPU
    sent = step_bytes(LARGE, split, Stack())
    hidden = 2 * 4096 * 16_384
    assert sent["tensor"] == pytest.approx(32 * 126 / 16 * 4 * 2 * 7 / 8 * hidden)
    assert sent["context"] == pytest.approx(32 * 126 / 16 * 3 * 2 * 2 * 4096 * 8 * 128 / 8)
    assert sent["pipeline"] == pytest.approx(32 * 2 * hidden / 8 * 7)
    assert sent["copies"] == pytest.approx(sharding_bytes(LARGE, split, Stack(), 126 / 16))
    assert step_bytes(LARGE, Split(), Stack()) == {}
