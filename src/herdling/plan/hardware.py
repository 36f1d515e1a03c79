"""What a GPU and its network can do: memory, measured ceilings of matrix products, bandwidths, power and an assumed price. Imports no torch.

Ceilings are measured maxima of matrix products where someone published them, 70 to 87 % of the datasheet; else 0.78 of it. Links are counted in one direction,
a GPU's share. Prices are round rental prices of 2025: give your own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from herdling.base.errors import SettingsError, did_you_mean
from herdling.plan.split import Precision

MEASURED_SHARE = 0.78
"""Measured over datasheet for matrix products, where nobody published a measurement."""
ATTENTION_SHARE = 0.4
"""The same for flash attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of a cluster and its share of the network. All rates are dense, without sparsity."""

    name: str
    memory_gib: float
    """What a process can use."""
    datasheet_tflops: float
    """bfloat16 of the datasheet, which MFU divides by."""
    matmul_tflops: float
    """bfloat16 as large matrix products reach it."""
    attention_tflops: float
    """As flash attention reaches it, forward and backward, long causal rows, heads of 128: FlashAttention-2's paper for A100 and H100 (sections 4.1, 4.2)."""
    hbm_gb_per_s: float
    link_gb_per_s: float
    """Inside a domain: NVLink, or PCIe."""
    nic_gb_per_s: float = 50.0
    """Between domains: 400 Gb/s a GPU (Llama 3, section 3.3.1)."""
    domain_size: int = 8
    """GPUs that reach each other over NVLink."""
    fast_attention_tflops: float | None = None
    """The same with kernels written for the generation (FlashAttention-3's paper for H100, forward and backward); unset where there are none."""
    fp8_tflops: float | None = None
    """As measured; unset where the GPU has no such units."""
    fp4_tflops: float | None = None
    watts: float = 700.0
    """At full load, the GPU alone."""
    dollars_per_hour: float = 2.5

    def __post_init__(self) -> None:
        for name in (
            "memory_gib",
            "datasheet_tflops",
            "matmul_tflops",
            "attention_tflops",
            "hbm_gb_per_s",
            "link_gb_per_s",
            "nic_gb_per_s",
            "domain_size",
            "watts",
        ):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} of the GPU {self.name} is {getattr(self, name)}; accepted: more than 0")
        if self.dollars_per_hour < 0:
            raise SettingsError(f"dollars_per_hour of the GPU {self.name} is {self.dollars_per_hour}; accepted: 0 or more")

    def ceiling(self, precision: Precision) -> float:
        """Return the TFLOPs of matrix products in this precision. Raises `SettingsError` where the GPU has none."""
        found = {"bf16": self.matmul_tflops, "fp8": self.fp8_tflops, "fp4": self.fp4_tflops}[precision]
        if found is None:
            raise SettingsError(f"the GPU {self.name} has no units for {precision}; accepted: bf16" + (", fp8" if self.fp8_tflops else ""))
        return found

    def group_gb_per_s(self, size: int, inner: int = 1) -> float:
        """Return the bandwidth, a GPU, of a group whose members are `inner` ranks apart: NVLink inside a domain, else the NICs of its members on a node.

        A group with a whole node in it uses all of the node's NICs at once; charging it with one is the common mistake.
        """
        if size * inner <= self.domain_size:
            return self.link_gb_per_s
        return min(self.link_gb_per_s, self.nic_gb_per_s * max(1, self.domain_size // inner))


def _gpu(
    name: str, memory_gib: float, datasheet: float, measured: float | None, attention: float | None, hbm: float, link: float, **others: float | int | None
) -> Gpu:
    return Gpu(
        name=name,
        memory_gib=memory_gib,
        datasheet_tflops=datasheet,
        matmul_tflops=measured or MEASURED_SHARE * datasheet,
        attention_tflops=attention or ATTENTION_SHARE * datasheet,
        hbm_gb_per_s=hbm,
        link_gb_per_s=link,
        **others,  # type: ignore[arg-type]
    )


GPUS = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            _gpu("a100-40gb", 39.4, 312, 271, 190, 1555, 300, nic_gb_per_s=25.0, watts=400.0, dollars_per_hour=1.3),
            _gpu("a100-80gb", 79.15, 312, 271, 190, 2039, 300, nic_gb_per_s=25.0, watts=400.0, dollars_per_hour=1.6),
            _gpu("h100", 79.1, 989.4, 794.5, 335, 3350, 450, fast_attention_tflops=560.0, fp8_tflops=1403.0, dollars_per_hour=2.5),
            _gpu("h100-96gb", 94.5, 989.4, 794.5, 335, 2400, 450, fast_attention_tflops=560.0, fp8_tflops=1403.0, watts=500.0, dollars_per_hour=2.5),
            _gpu("h200", 139.8, 989.4, 794.5, 335, 4800, 450, fast_attention_tflops=560.0, fp8_tflops=1403.0, dollars_per_hour=3.3),
            _gpu(
                "b200",
                178.3,
                2250,
                1745,
                None,
                8000,
                900,
                fast_attention_tflops=1200.0,
                fp8_tflops=3433.0,
                fp4_tflops=6500.0,
                watts=1000.0,
                dollars_per_hour=5.0,
            ),
            _gpu(
                "gb200",
                184.5,
                2450,
                1822,
                None,
                8000,
                900,
                domain_size=72,
                fast_attention_tflops=1200.0,
                fp8_tflops=3600.0,
                fp4_tflops=7200.0,
                watts=1200.0,
                dollars_per_hour=6.0,
            ),
            _gpu(
                "gb300",
                276.0,
                2450,
                None,
                None,
                8000,
                900,
                domain_size=72,
                fast_attention_tflops=1200.0,
                fp8_tflops=3800.0,
                fp4_tflops=10_000.0,
                watts=1400.0,
                dollars_per_hour=7.0,
            ),
            _gpu("mi300x", 191.5, 1307, 708, None, 5300, 448, watts=750.0, dollars_per_hour=2.5),
            _gpu("l40s", 44.4, 362, None, None, 864, 32, nic_gb_per_s=12.5, fp8_tflops=560.0, watts=350.0, dollars_per_hour=1.0),
            _gpu("rtx-4090", 23.5, 165, None, None, 1008, 32, nic_gb_per_s=3.0, fp8_tflops=260.0, watts=450.0, dollars_per_hour=0.4),
        )
    }
)
"""Name -> GPU."""


def find_gpu(name: str, **changes: float | None) -> Gpu:
    """Return the GPU of this name, with what is given in place of its own values. Raises `SettingsError`, with the list, for an unknown name."""
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key not in GPUS:
        raise SettingsError(f"GPU {name!r} is unknown{did_you_mean(key, GPUS)}; accepted: {', '.join(GPUS)}")
    return replace(GPUS[key], **{field: value for field, value in changes.items() if value is not None})  # type: ignore[arg-type]
