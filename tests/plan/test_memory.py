"""Memory by part, against values worked by hand and what others measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from herdling.base.errors import SettingsError
from herdling.model.config import LlamaConfig
from herdling.model.presets import preset
from herdling.plan.memory import activation_bytes, inference_memory, layer_parameters, micro_batches_held, stage_memory, training_memory
from herdling.plan.split import Job, Split, Stack, layers_of_stages

TINY = LlamaConfig(vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
JOB = Job(model=TINY, seq_len=256, global_batch=32)
BARE = Stack(reserve_gib=0.0, fragmentation=0.0)


def test_states_of_a_sharded_optimizer() -> None:
    block = 64 * 16 * 2 * (4 + 2) + 3 * 64 * 128 + 2 * 64
    assert layer_parameters(TINY) == block == 36_992
    memory = training_memory(JOB, Split(dp=4, sharding="zero1"), BARE)
    parameters = 4 * block + 2 * 64_000
    assert (memory.weights, memory.gradients, memory.optimizer) == (2 * parameters, 4 * parameters, 3 * parameters)


def test_zero2_shards_gradients_and_fsdp_all_states_but_what_is_at_work() -> None:
    parameters = 4 * 36_992 + 128_000
    assert training_memory(JOB, Split(dp=4, sharding="zero2"), BARE).gradients == parameters
    fsdp = training_memory(JOB, Split(dp=4, sharding="zero3"), BARE)
    assert fsdp.weights == parameters + 2 * 2 * 64_000  # the float32 master, and two of the largest block in bfloat16: an embedding
    assert fsdp.optimizer == 2 * parameters


def test_context_parallel_ranks_share_states_too() -> None:
    assert training_memory(JOB, Split(dp=2, cp=2, sharding="zero1"), BARE).optimizer == training_memory(JOB, Split(dp=4, sharding="zero1"), BARE).optimizer


def test_activations_of_a_layer_counted_by_hand() -> None:
    # Norms 8 * 64; query, key, value, output 2 * (64 + 32 + 32 + 64); gate, up, activated, product 8 * 128.
    assert activation_bytes(JOB, Split(), BARE)[0] == 512 + 384 + 1024
    assert activation_bytes(JOB, Split(recompute="full"), BARE) == (128, 1920)
    assert activation_bytes(JOB, Split(tp=2), BARE)[0] == 960
    assert activation_bytes(JOB, Split(tp=2, sequence_parallel=False), BARE)[0] == 512 + 704
    assert activation_bytes(JOB, Split(), replace(BARE, compiled=True))[0] == 256 + 384 + 512
    assert activation_bytes(JOB, Split(), replace(BARE, score_bytes=5.0))[0] == 1920 + 5 * 4 * 256


def test_selective_recomputation_lies_between() -> None:
    kept = [activation_bytes(JOB, Split(recompute=recompute), BARE)[0] for recompute in ("full", "selective", "none")]
    assert kept == sorted(kept)


@pytest.mark.parametrize(
    ("split", "micro_batches", "stage", "held"),
    [
        (Split(pp=4), 8, 0, 4.0),
        (Split(pp=4), 8, 3, 1.0),
        (Split(pp=4), 2, 0, 2.0),
        (Split(pp=4, virtual_stages=2), 8, 0, 5.5),  # 4 * (1 + 3 / 8)
        (Split(), 8, 0, 1.0),
    ],
)
def test_micro_batches_that_a_stage_holds(split: Split, micro_batches: int, stage: int, held: float) -> None:
    assert micro_batches_held(split, micro_batches, stage) == held


def test_first_and_last_stage_of_llama_3_have_a_layer_less() -> None:
    assert layers_of_stages(126, Split(pp=16), balanced_ends=True) == [7, *[8] * 14, 7]
    assert sum(layers_of_stages(126, Split(pp=8), balanced_ends=False)) == 126


def test_a_chunked_loss_does_away_with_the_logits_of_a_large_vocabulary() -> None:
    job = Job(model=preset("llama3-8b"), seq_len=8192, global_batch=128)
    split = Split(dp=64, micro_batch=2, recompute="full")
    plain, chunked = (training_memory(job, split, Stack(loss=loss)) for loss in ("plain", "chunked"))
    assert plain.total - chunked.total > 15 * 2**30  # 16,384 logits of 128,256 at 14 bytes are 27 GiB


@pytest.mark.parametrize(
    ("name", "split", "stack", "gib"),
    [
        ("llama3-8b", Split(dp=128, micro_batch=2, recompute="selective"), Stack(repeated_keys=True), 62.0),
        ("llama3-8b", Split(dp=2, cp=4, recompute="full"), Stack(repeated_keys=True), 84.0),
        ("llama3-70b", Split(tp=8, dp=32, micro_batch=16, recompute="full"), Stack(repeated_keys=True, logit_bytes=22.0), 71.9),
    ],
    ids=["8B", "8B at 131,072 tokens", "70B"],
)
def test_memory_that_torchtitan_published(name: str, split: Split, stack: Stack, gib: float) -> None:
    seq_len = 131_072 if split.cp > 1 else 8192
    job = Job(model=preset(name), seq_len=seq_len, global_batch=split.dp * split.micro_batch)
    assert training_memory(job, split, stack).allocated / 2**30 == pytest.approx(gib, rel=0.05)


def test_ppo_holds_four_models() -> None:
    split = Split(dp=4, sharding="zero1")
    alone, four = training_memory(JOB, split, BARE), training_memory(replace(JOB, trained_models=2, frozen_models=2), split, BARE)
    assert four.weights == 4 * alone.weights
    assert four.optimizer == 2 * alone.optimizer
    assert four.activations == alone.activations


def test_405b_serves_from_two_servers_and_not_from_one() -> None:  # Llama 3, section 6.1
    need = {pp: inference_memory(preset("llama3.1-405b"), tp=8, pp=pp, sequences=1, seq_len=4352).total / 2**30 for pp in (1, 2)}
    assert need[1] > 80 > need[2]


@pytest.mark.parametrize("change", [{"seq_len": 0}, {"global_batch": 0}, {"attended": 0.5}, {"attended": 300.0}])
def test_a_step_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="accepted"):
        replace(JOB, **change)


def test_pytorchs_pipelines_hold_a_buffer_for_every_micro_batch() -> None:
    split = Split(pp=4, dp=2)
    more = {
        stage: stage_memory(JOB, split, replace(BARE, receives_at_once=True), layers=1, stage=stage).activations
        - stage_memory(JOB, split, BARE, layers=1, stage=stage).activations
        for stage in (0, 1, 3)
    }
    one = 2 * JOB.model.hidden_size * JOB.seq_len * split.micro_batches(JOB)
    assert more == {0: one, 1: 2 * one, 3: one}  # the first receives no input, the last no gradient
