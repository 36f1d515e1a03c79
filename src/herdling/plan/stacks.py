"""Training software by name, as its own documents describe it: what it keeps in memory and which kernels it runs. Imports no torch.

Descriptions, not fitted numbers. A plain loss takes 14 bytes a logit in eager PyTorch, 6 or 7 fused or compiled.
"""

from __future__ import annotations

from types import MappingProxyType

from herdling.base.errors import SettingsError, did_you_mean
from herdling.plan.split import Stack

STACKS = MappingProxyType(
    {
        "herdling": Stack(loss="chunked"),
        "llama3": Stack(balanced_ends=True, compiled=True, overlapped=True),  # "without activation checkpointing" (3.3.2) does not fit otherwise
        "megatron": Stack(
            gradient_bytes=2,
            logit_bytes=6.0,
            low_precision_inputs=True,
            async_tp=True,
            ring=True,
            overlapped=True,
            data_outermost=False,
        ),
        "torchtitan": Stack(logit_bytes=7.0, repeated_keys=True, attention="flash2", receives_at_once=True, data_outermost=False),
        "llm-foundry": Stack(logit_bytes=6.0, attention="flash2", data_outermost=False, reserve_gib=1.0),
    }
)
"""Name -> software: our own way, Meta's of Llama 3 (section 3.3), Megatron-Core with Transformer Engine, torchtitan of 2025, MosaicML's LLM Foundry."""


def find_stack(name: str) -> Stack:
    """Return the software of this name. Raises `SettingsError`, with the list, for an unknown name."""
    key = name.lower().replace("_", "-")
    if key not in STACKS:
        raise SettingsError(f"stack {name!r} is unknown{did_you_mean(key, STACKS)}; accepted: {', '.join(STACKS)}")
    return STACKS[key]
