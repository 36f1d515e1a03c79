"""How sure a number is: a share (the Wilson score interval, within 0 and 1, honest for small counts and for 0 or 100 %) or a mean (Student's interval)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

Z_95 = 1.959963984540054
# Student's two-sided 95 % quantile for 1 to 30 degrees of freedom; beyond, two terms of its expansion are good to 0.0005.
T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


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


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (mean, low, high): the mean with Student's 95 % interval; of one value it is without bounds. For paired data give the differences.

    Raises:
        ZeroDivisionError: no value.
    """
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return mean, -inf, inf
    deviation = sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    freedom = count - 1
    expansion = Z_95 + (Z_95**3 + Z_95) / (4 * freedom) + (5 * Z_95**5 + 16 * Z_95**3 + 3 * Z_95) / (96 * freedom**2)
    quantile = T_95[freedom - 1] if freedom <= len(T_95) else expansion
    spread = quantile * deviation / sqrt(count)
    return mean, mean - spread, mean + spread
