"""Which GPU of `hardware.GPUS` a driver's name means: "NVIDIA H100 80GB HBM3" -> h100. No torch."""

from __future__ import annotations

from herdling.plan.hardware import GPUS, Gpu

# In order: a longer name before one that it holds. The words stand in the driver's name, in any order.
NAMES = (
    (("GB300",), "gb300"),
    (("GB200",), "gb200"),
    (("B200",), "b200"),
    (("H200",), "h200"),
    (("H100", "96GB"), "h100-96gb"),
    (("H100",), "h100"),
    (("A100", "40GB"), "a100-40gb"),
    (("A100",), "a100-80gb"),
    (("MI300X",), "mi300x"),
    (("L40S",), "l40s"),
    (("4090",), "rtx-4090"),
)


def gpu_of(name: str) -> Gpu | None:
    """Return the GPU that a driver calls by this name, or None for one that we do not know."""
    if "GH200" in name:  # has H200 in its name, and the H100's cores
        return GPUS["h100-96gb"]
    return next((GPUS[key] for words, key in NAMES if key in GPUS and all(word in name for word in words)), None)
