"""How sure a share is: the Wilson score interval, which stays within 0 and 1 and is honest for small counts and for 0 or 100 %."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054


def wilson(correct: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the interval of a share of `correct` in `total` (E. B. Wilson, 1927); (0, 1) when nothing was asked."""
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
