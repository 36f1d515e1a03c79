"""How sure a share is: the Wilson score interval, which stays within 0 and 1 and is honest for small counts and for 0 or 100 %."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054


def wilson(correct: float, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the interval of a share of `correct` in `total` (E. B. Wilson, 1927); (0, 1) when nothing was asked."""
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired_lead(ahead: float, behind: float, total: float, z: float = Z_95) -> tuple[float, float, float]:
    """Return (lead, low, high) of one share over another where both judged the same `total` cases (Agresti and Min, 2005).

    `ahead` is how many cases only the first got right, `behind` how many only the second did. Half a case is added to each of the four outcomes before the
    interval is taken, so that none has width 0; the lead itself is the plain difference. With no case at all: (0, -1, 1).
    """
    if total == 0:
        return 0.0, -1.0, 1.0
    centre = (ahead - behind) / (total + 2)
    spread = z * sqrt((ahead + behind + 1) / (total + 2) - centre * centre) / sqrt(total + 2)
    return (ahead - behind) / total, max(-1.0, centre - spread), min(1.0, centre + spread)
