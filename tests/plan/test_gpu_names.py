"""Names that drivers give GPUs."""

from __future__ import annotations

import pytest

from herdling.plan.gpu_names import gpu_of


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA GH200 480GB", "h100-96gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_drivers_names_are_known(name: str, known: str) -> None:
    found = gpu_of(name)
    assert found is not None
    assert found.name == known


def test_an_unknown_gpu_is_none() -> None:
    assert gpu_of("Voodoo 2") is None
