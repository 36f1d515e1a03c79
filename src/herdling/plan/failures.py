"""What interrupts a run on many GPUs, how often, and how far it reaches: Llama 3's table 5 as the default, or a mean time between failures.

A failure of reach `server` takes one server with it: its work survives in the memory of the others, and a spare takes its place. One of reach `job` takes the
whole job: only storage has what it did. Which is which is our reading of the table's components, not said in the paper. Starts without torch.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal, cast

from herdling.base.errors import DataError, SettingsError

Reach = Literal["server", "job"]
JOB_CATEGORIES = ("Dependency", "Network", "Unknown")
JOB_COMPONENTS = ("Silent Data Corruption",)


def check_amount(name: str, value: float, *, zero: bool = True, unit: str = "seconds") -> None:
    """Refuse what is no amount. Raises `SettingsError` below 0, at 0 where that is senseless, and for what is not finite."""
    if not isfinite(value) or value < 0 or (value == 0 and not zero):
        raise SettingsError(f"{name}: found {value:g}, expected {unit}, {'0 or more' if zero else 'more than 0'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureClass:
    """One row of a table of interruptions."""

    component: str
    category: str
    count: int
    reach: Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureTable:
    """Interruptions counted on `num_gpus` GPUs over `days`."""

    name: str
    num_gpus: int
    days: float
    classes: Sequence[FailureClass]

    def __post_init__(self) -> None:
        """Refuse a table that says nothing."""
        check_amount("failures.num_gpus", self.num_gpus, zero=False, unit="GPUs")
        check_amount("failures.days", self.days, zero=False, unit="days")
        for row in self.classes:
            check_amount(f"failures.{row.component}", row.count, unit="failures")
        if not self.count():
            raise SettingsError(
                f"failures: {self.name} counts no failure in {self.days:g} days: a rate of zero cannot be told from it. Give a mean time between them"
            )

    def count(self, reach: Reach | None = None) -> int:
        """Return how many failures were counted, of one reach or of both."""
        return sum(row.count for row in self.classes if reach in (None, row.reach))

    def share(self, component: str) -> float:
        """Return the share of one component in all failures, from the counts."""
        return next(row.count for row in self.classes if row.component == component) / self.count()

    def by_category(self) -> dict[str, int]:
        """Return category -> count, most frequent first."""
        names = dict.fromkeys(row.category for row in self.classes)
        return dict(sorted(((name, sum(row.count for row in self.classes if row.category == name)) for name in names), key=lambda item: -item[1]))

    def rates(self, num_gpus: int, count: float | None = None) -> Rates:
        """Return failures a second on `num_gpus` GPUs, in proportion to them; `count` stands for another total, for example one drawn from its uncertainty."""
        check_amount("num_gpus", num_gpus, zero=False, unit="GPUs")
        scale = (1.0 if count is None else count / self.count()) * num_gpus / self.num_gpus / (self.days * 86400)
        return Rates(server=self.count("server") * scale, job=self.count("job") * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Events a second on the whole cluster, each a Poisson process."""

    server: float = 0.0
    """Failures that take one server."""
    job: float = 0.0
    """Failures that take the whole job."""
    corruption: float = 0.0
    """Corruptions that are noticed only later, beside those that stopped the run at once."""
    straggler: float = 0.0
    """GPUs or links that turn slow, and everyone waits for them until they are found."""

    def __post_init__(self) -> None:
        """Refuse rates below 0."""
        for name in ("server", "job", "corruption", "straggler"):
            check_amount(f"rates.{name}", getattr(self, name), unit="events a second")

    @property
    def mean_time_between_failures(self) -> float:
        """Seconds from one failure to the next, on the whole cluster. Raises `SettingsError` where there are none."""
        if self.server + self.job == 0:
            raise SettingsError("rates: server and job are both 0, and there is no time between failures that never come. Give one of them")
        return 1 / (self.server + self.job)

    def scaled(self, factor: float) -> Rates:
        """Return all rates times `factor`."""
        return Rates(server=self.server * factor, job=self.job * factor, corruption=self.corruption * factor, straggler=self.straggler * factor)


def read_failures(path: Path, *, num_gpus: int, days: float) -> FailureTable:
    """Read a table with the columns component, category, count and, where it is known, reach; without it, reach is told as in Llama 3's table.

    A share that is printed beside a count is not read: it follows from the counts, and in Llama 3's own table one is a misprint.

    Raises:
        DataError: a missing file or column, a count that is no whole number, an unknown reach.
        SettingsError: a table that says nothing.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Expected a table (.csv) with the columns component, category, count")
    classes = []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if missing := {"component", "category", "count"} - set(rows.fieldnames or ()):
            raise DataError(f"{path}: no column {', '.join(sorted(missing))}; found {', '.join(rows.fieldnames or ()) or 'nothing'}")
        for number, row in enumerate(rows, start=2):
            component, category, count = row["component"] or "", row["category"] or "", row["count"] or ""
            reach = row.get("reach") or ("job" if category in JOB_CATEGORIES or component in JOB_COMPONENTS else "server")
            if not count.strip().isdecimal() or reach not in ("server", "job"):
                raise DataError(f"{path}:{number}: found count {count!r} and reach {reach!r}, expected a whole number, and server or job")
            classes.append(FailureClass(component=component, category=category, count=int(count), reach=cast(Reach, reach)))
    return FailureTable(name=path.name, num_gpus=num_gpus, days=days, classes=classes)


# component, category, count, reach. The counts add up to the 419 of the text. The printed share of faulty GPUs, 30.1 %, is a misprint: 148 of 419 are 35.3 %,
# as every other printed share agrees with its count. Shares are computed from the counts here, and GPUs cause 64.0 % of the failures where the text has 58.7 %.
_LLAMA3: tuple[tuple[str, str, int, Reach], ...] = (
    ("Faulty GPU", "GPU", 148, "server"),
    ("GPU HBM3 Memory", "GPU", 72, "server"),
    ("Software Bug", "Dependency", 54, "job"),
    ("Network Switch/Cable", "Network", 35, "job"),
    ("Host Maintenance", "Unplanned Maintenance", 32, "server"),
    ("GPU SRAM Memory", "GPU", 19, "server"),
    ("GPU System Processor", "GPU", 17, "server"),
    ("NIC", "Host", 7, "server"),
    ("NCCL Watchdog Timeouts", "Unknown", 7, "job"),
    ("Silent Data Corruption", "GPU", 6, "job"),
    ("GPU Thermal Interface + Sensor", "GPU", 6, "server"),
    ("SSD", "Host", 3, "server"),
    ("Power Supply", "Host", 3, "server"),
    ("Server Chassis", "Host", 2, "server"),
    ("IO Expansion Board", "Host", 2, "server"),
    ("Dependency", "Dependency", 2, "job"),
    ("CPU", "Host", 2, "server"),
    ("System Memory", "Host", 2, "server"),
)
LLAMA3 = FailureTable(
    name="Llama 3, table 5",
    num_gpus=16384,
    days=54.0,
    classes=[FailureClass(component=name, category=category, count=count, reach=reach) for name, category, count, reach in _LLAMA3],
)
LLAMA3_PLANNED = 47
"""Planned interruptions in the same 54 days (Llama 3, section 3.3.4)."""
