"""How many spare servers a run needs: the share of time it stands still for want of one, and the days that are lost so.

Servers fail as a Poisson process while the job runs; each is repaired for a fixed time and is a spare again. With s spares the job stands still while s + 1 are
under repair, and nothing fails then: Erlang's loss formula with s + 1 lines, whatever the distribution of repairs. Starts without torch.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from herdling.base.errors import SettingsError
from herdling.plan.failures import check_amount

MOST_SPARES = 10_000


def share_short(load: float, spare_servers: int) -> float:
    """Return the share of time without enough servers; `load` = failures a second x seconds of a repair (Erlang, 1917)."""
    blocked = 1.0
    for line in range(1, spare_servers + 2):
        blocked = load * blocked / (line + load * blocked)
    return blocked


def days_short(rate: float, repair_seconds: float, spare_servers: int, days: float, generator: np.random.Generator) -> float:
    """Play one run of `days` of other time: return the days that it stands still for want of a spare."""
    time, short, repairs = 0.0, 0.0, deque[float]()
    while rate:
        time += generator.standard_exponential() / rate
        if time > days * 86400:
            break
        while repairs and repairs[0] <= time + short:
            repairs.popleft()
        repairs.append(time + short + repair_seconds)
        if len(repairs) > spare_servers:
            short = repairs.popleft() - time
    return short / 86400


def spares_for(rate: float, repair_seconds: float, days: float, *, most_days: float, chance: float, generator: np.random.Generator, num_runs: int = 200) -> int:
    """Return the fewest spares with which at most `most_days` of `days` are lost with at least this chance, over `num_runs` played runs.

    Raises:
        SettingsError: a chance outside (0, 1), or amounts below 0.
    """
    if not 0 < chance < 1:
        raise SettingsError(f"spares.chance: found {chance:g}, expected a number between 0 and 1")
    for name, value in (("rate", rate), ("repair_seconds", repair_seconds), ("days", days), ("most_days", most_days)):
        check_amount(f"spares.{name}", value)
    low, high = -1, 1

    def is_enough(count: int) -> bool:
        lost = [days_short(rate, repair_seconds, count, days, generator) for _ in range(num_runs)]
        return float(np.quantile(lost, chance)) <= most_days

    while not is_enough(high):
        low, high = high, high * 2
        if high > MOST_SPARES:
            raise SettingsError(
                f"spares: more than {MOST_SPARES:,} would be needed at {rate * 86400:.3g} failures a day and {repair_seconds / 86400:.3g} days of repair"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
