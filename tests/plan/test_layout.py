"""The search over splits: all of a cluster, nothing that does not fit, reasons, and time."""

from __future__ import annotations

from time import perf_counter

import pytest

from herdling.base.errors import SettingsError
from herdling.model.presets import preset
from herdling.plan.hardware import find_gpu
from herdling.plan.layout import divisors, least_cluster, rank, search, torchrun_lines
from herdling.plan.split import Job, Split

H100 = find_gpu("h100")
LARGE = Job(model=preset("llama3.1-405b"), seq_len=8192, global_batch=2048)


def test_all_splits_of_16384_gpus_in_less_than_a_second() -> None:
    begin = perf_counter()
    found = search(LARGE, 16_384, H100)
    assert perf_counter() - begin < 1.0
    assert found.candidates
    for one in found.candidates:
        assert one.split.num_gpus == 16_384
        assert one.split.tp <= 8
        assert one.memory.total < H100.memory_gib * 2**30
    ranks = [rank(one.split, one.forecast.seconds) for one in found.candidates]
    assert ranks == sorted(ranks)


def test_the_papers_groups_for_405b_are_nearly_the_best() -> None:
    found = search(LARGE, 16_384, H100).candidates
    papers = min(one.forecast.seconds for one in found if (one.split.tp, one.split.pp) == (8, 16))  # Llama 3, table 4
    assert found[0].split.tp == 8
    assert papers < 1.05 * found[0].forecast.seconds


def test_every_refusal_has_a_reason() -> None:
    reasons = " ".join(search(LARGE, 8, H100).refused)
    assert "needs more than the 79 GiB" in reasons
    assert "more pipeline stages than layers" in " ".join(search(LARGE, 16_384, H100).refused)
    assert "NVLink" in " ".join(search(LARGE, 64, H100).refused)


def test_the_least_cluster_of_a_model() -> None:
    assert least_cluster(Job(model=preset("llama3.2-1b"), seq_len=2048, global_batch=8), H100) == 1
    least = least_cluster(LARGE, H100)
    assert least is not None
    assert search(LARGE, least, H100).candidates
    assert not search(LARGE, least // 2, H100).candidates


def test_a_model_too_large_for_any_cluster_has_none() -> None:
    assert least_cluster(LARGE, find_gpu("h100", memory_gib=1.0), limit=1024) is None


def test_no_cluster_of_no_gpus() -> None:
    with pytest.raises(SettingsError, match="a cluster of 0 GPUs"):
        search(LARGE, 0, H100)


def test_another_kind_of_parallelism_must_earn_its_trouble() -> None:
    assert rank(Split(tp=2), 1.0) > rank(Split(dp=2), 1.01)


@pytest.mark.parametrize(("number", "expected"), [(1, [1]), (12, [1, 2, 3, 4, 6, 12]), (16, [1, 2, 4, 8, 16])])
def test_divisors(number: int, expected: list[int]) -> None:
    assert divisors(number) == expected


def test_torchrun_names_every_server() -> None:
    assert torchrun_lines(8, H100).startswith("torchrun --nnodes 1 --nproc-per-node 8 --standalone")
    assert "--nnodes 2 --nproc-per-node 8 --rdzv" in torchrun_lines(16, H100)
    assert "--nnodes 2 --nproc-per-node 6" in torchrun_lines(12, H100)
    assert torchrun_lines(1, H100, "tiny.toml") == "herdling run tiny.toml"
