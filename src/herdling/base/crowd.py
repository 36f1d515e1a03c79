"""How much of the processor others took beside this process, between two moments: where it is not little, measured times say nothing of the machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TOLERATED = 0.1
"""Share of this process's cores that others may take unnoticed."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds: on the wall, of all cores at work for anyone (stolen ones too), of this process."""

    wall: float
    everyone: float
    own: float


def moment() -> Moment | None:
    """Return now, or None where the system does not tell (only Linux does, in /proc/stat)."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
        user, nice, system, _, _, irq, softirq, steal = fields
        return Moment(time.monotonic(), (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), time.process_time())
    except (OSError, ValueError, AttributeError):
        return None


def crowding(before: Moment | None, after: Moment | None, *, threads: int, cores: int) -> float:
    """Return the cores that others took of the `threads` which this process works with, on a machine of `cores`; 0 for little, and where nobody can tell."""
    if before is None or after is None or after.wall <= before.wall:
        return 0.0
    wall = after.wall - before.wall
    others = ((after.everyone - before.everyone) - (after.own - before.own)) / wall
    taken = min(float(threads), others - max(0, cores - threads))
    return round(taken, 2) if taken > TOLERATED * threads else 0.0


def cores(count: int) -> str:
    """Write how many."""
    return f"{count} core{'s' * (count != 1)}"
