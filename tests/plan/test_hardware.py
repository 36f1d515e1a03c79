"""GPUs by name, and the bandwidth of groups of them."""

from __future__ import annotations

import pytest

from herdling.base.errors import SettingsError
from herdling.plan.hardware import GPUS, find_gpu


@pytest.mark.parametrize(
    ("size", "inner", "gb_per_s"),
    [(8, 1, 450), (2, 4, 450), (16, 1, 400), (16, 8, 50), (4, 4, 100)],
    ids=["a node", "in a node", "whole nodes use all NICs", "one a node", "two a node"],
)
def test_bandwidth_of_a_group(size: int, inner: int, gb_per_s: float) -> None:
    assert find_gpu("h100").group_gb_per_s(size, inner) == gb_per_s


def test_an_unknown_gpu_is_answered_with_the_list() -> None:
    with pytest.raises(SettingsError, match=r"did you mean 'h100'.*accepted: a100-40gb, .*rtx-4090"):
        find_gpu("H10O")


def test_names_are_read_as_people_write_them() -> None:
    assert find_gpu("A100-80GB").name == find_gpu("a100_80gb").name == "a100-80gb"


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan")])
def test_a_bandwidth_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="nic_gb_per_s of the GPU h100"):
        find_gpu("h100", nic_gb_per_s=value)


def test_what_a_gpu_cannot_compute_is_said() -> None:
    with pytest.raises(SettingsError, match="a100-80gb has no units for fp8"):
        find_gpu("a100-80gb").ceiling("fp8")


@pytest.mark.parametrize("name", GPUS)
def test_measured_ceilings_lie_below_the_datasheet(name: str) -> None:
    gpu = find_gpu(name)
    assert 0.5 < gpu.matmul_tflops / gpu.datasheet_tflops < 1
    assert gpu.attention_tflops < gpu.matmul_tflops
