"""What of a machine's ceilings software reaches: the scalars of the forecast, with the values that ship. No torch.

The shipped values were fitted to half of the measured steps whose licence permits it (docs/decisions/0075); `calibration` fits them to a machine's own. They
trade against each other: together they forecast, alone they explain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What of a machine's ceilings software reaches, as scalars that hold for all models and splits."""

    matmul: float = 1.0
    """Share of the matrix-product ceiling in bfloat16 for wide slices and many tokens."""
    low_precision: float = 1.0
    """The same in fp8 and fp4, as a share of `matmul`: scales and casts cost."""
    attention: float = 0.54
    """Share of the attention ceiling, of the causal half."""
    thin: float = 0.39
    """Loss where a rank's slice of the hidden size is 1,024: time grows by thin * 1024 / slice."""
    short: float = 0.23
    """Loss where a rank's micro-batch has 1,024 tokens and its slice is wide: time grows by short * 1024 / tokens * (1 + 1024 / slice)."""
    memory: float = 1.26
    """Time of pointwise work, as a multiple of moving its bytes at HBM speed."""
    tensor: float = 0.6
    """Share of tensor-parallel communication that is not covered."""
    overlap: float = 1.0
    """Share of the smaller of computing and gathering weights (FSDP) that is not covered by the larger."""
    data: float = 1.24
    """Time of what the copies exchange, as a multiple of moving its bytes at the line's rate."""
    crowd: float = 0.2
    """By how much exchanges between nodes slow down each time the number of nodes doubles."""
    pressure: float = 0.04
    """Growth of the step where memory runs full: times what the use exceeds 90 % by, for then the allocator frees and asks again."""
    launch: float = 56e-6
    """Seconds a layer and micro-batch besides its work."""
    step: float = 0.076
    """Seconds a step besides its work."""
    spread: float = 0.2
    """Half width of the 90 % interval, in log step time: of publishers whose own steps were not fitted to."""
