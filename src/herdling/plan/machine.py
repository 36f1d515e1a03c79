"""What was measured of this machine: ceilings, a law of step times, how long finished runs took; one small JSON file for all machines of a home folder.

A record belongs to what decides speed: processor, cores this process may use, GPU, torch's version. No host's name is kept. A record of other hardware
another torch is never used: `differences` says what differs. Written beside and renamed under a lock; the eight newest machines and the last forty runs stay.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from herdling.base.artifact import write_json_atomic
from herdling.base.environment import hides_gpus, machine_file
from herdling.base.errors import LockedError, SettingsError
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.resampling import student_90
from herdling.plan.step_time import KINDS, LEAST_SPREAD, StepLaw

FORMAT = 1
MAX_MACHINES = 8
MAX_RUNS = 40
MAX_RUNS_OF_A_WORK = 12
"""What is newer says more of the machine as it is."""
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
LAW_WORK = "next token"
"""What the law of step times was measured on: pre-training and fine-tuning."""
OTHER_WORK_SPREAD = 0.35
"""Of another objective that no run has told of yet."""
WAIT_SECONDS = 5.0
CALIBRATE = "herdling plan --calibrate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What decides the speed of a machine."""

    processor: str
    """Its name, with the vector units that matrix products are done with."""
    cores: int
    """That this process may use."""
    gpu: str
    """Name of the first, or empty."""
    torch: str

    def differences(self, other: Identity) -> list[str]:
        """Return a line for each thing in which another identity differs from this one."""
        pairs = ((item.name, getattr(self, item.name), getattr(other, item.name)) for item in fields(self))
        return [f"{name} {theirs or 'none'}, here {ours or 'none'}" for name, ours, theirs in pairs if ours != theirs]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """How long the steps of a run took."""

    work: str
    """What a step does: `next token`, `preference loss`, ..."""
    kinds: tuple[float, ...]
    """Its mean step's amount of each kind of work (`step_time.KINDS`)."""
    forecast_seconds: float
    """Of a step, by the law alone."""
    step_seconds: float
    """As measured."""
    steps: int
    date: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine, as measured."""

    identity: Identity
    dtype: str
    """That the law holds for: what this machine trains in."""
    law: StepLaw
    source: str
    """`calibrated`, or `a first run`: a look of a fifth of a second before it began."""
    date: str
    ceilings: Mapping[str, float] = field(default_factory=dict)
    """FLOP/s of products by type and size, of attention; bytes/s of memory and of exchange."""
    gpu: Gpu | None = None
    efficiency: Efficiency | None = None
    runs: tuple[FinishedRun, ...] = ()

    def correction(self, work: str) -> tuple[float, float]:
        """Return the factor on the law's seconds for this work, and the half width of the 90 % interval in log seconds, by what finished runs took.

        One run counts half, many wholly: a factor is their mean log error beside half a run without any.
        """
        spread = self.law.spread if work == LAW_WORK else max(self.law.spread, OTHER_WORK_SPREAD)
        runs = self.runs_of(work)
        if not runs:
            return 1.0, spread
        errors = np.log([run.step_seconds / run.forecast_seconds for run in runs])
        factor = float(np.exp(errors.sum() / (len(errors) + 0.5)))
        if len(errors) < 3:
            return factor, spread
        scatter = student_90(len(errors) - 1) * float(errors.std(ddof=1)) * (1 + 1 / len(errors)) ** 0.5
        return factor, max(LEAST_SPREAD, min(spread, scatter))

    def runs_of(self, work: str) -> tuple[FinishedRun, ...]:
        """Return the newest runs of this work in the type that the law holds for."""
        return tuple(run for run in self.runs if run.work == work and run.dtype == self.dtype)[-MAX_RUNS_OF_A_WORK:]

    def with_runs(self, runs: Iterable[FinishedRun]) -> Machine:
        """Return the machine with these runs more, each as its own law would have forecast it; runs on a GPU were forecast by the roofline and stay."""
        told = runs if self.gpu else (replace(run, forecast_seconds=float(self.law.constants @ np.array(run.kinds))) for run in runs)
        return replace(self, runs=(*self.runs, *told)[-MAX_RUNS:])

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "ceilings": dict(self.ceilings)}


def this_identity() -> Identity:
    """Return the identity of the machine and process that this is. Imports no torch: its version is that of the installed package."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Identity(processor=_processor(), cores=cores, gpu=_gpu(), torch=torch)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = (facts.get("flags") or facts.get("features") or "").split()
    units = [unit for unit in UNITS if unit in flags]
    return facts.get("model name", platform.machine()) + (f" ({' '.join(units)})" if units else "")


def _gpu() -> str:
    """Return the name of the first NVIDIA GPU as its driver tells without a library, or an empty text."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")) if not hides_gpus() else ():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                return value.strip()
    return ""


def read_machine(path: Path | None, identity: Identity) -> tuple[Machine | None, list[str]]:
    """Return the record of this machine, if there is one, and lines to say: what differs where there are only others, or that the file cannot be read."""
    if path is None or not path.is_file():
        return None, []
    machines, faults = _read(path)
    own = next((machine for machine in machines if machine.identity == identity), None)
    if own is not None or not machines:
        return own, faults
    near = min(machines, key=lambda machine: len(identity.differences(machine.identity)))
    return None, [*faults, f"{path}: measured on other ground, so not used ({'; '.join(identity.differences(near.identity))}); measure this: {CALIBRATE}"]


def update_machine(path: Path, identity: Identity, change: Callable[[Machine | None], Machine]) -> Machine:
    """Put what `change` makes of this machine's record, or of None, in its place, and return it. No other process writes in between.

    Raises `LockedError` when another holds the file for long, `OSError` where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=WAIT_SECONDS):
            machines = _read(path)[0] if path.is_file() else []
            changed = change(next((one for one in machines if one.identity == identity), None))
            newest = [changed, *(one for one in machines if one.identity != identity)][:MAX_MACHINES]
            write_json_atomic(path, {"format": FORMAT, "machines": [one.as_dict() for one in newest]})
    except Timeout:
        raise LockedError(f"{path}: another process writes here for over {WAIT_SECONDS:.0f} s. Try again, or set HERDLING_MACHINE to another file") from None
    return changed


def measured_here() -> tuple[Gpu, Efficiency]:
    """Return this machine's GPU and scalars as they were measured. Raises `SettingsError` where none was."""
    machine, lines = read_machine(machine_file(), this_identity())
    if machine is None or machine.gpu is None:
        raise SettingsError("; ".join([f"--gpu here: no GPU was measured here. Measure one: {CALIBRATE}", *lines]))
    return machine.gpu, machine.efficiency or Efficiency()


def _read(path: Path) -> tuple[list[Machine], list[str]]:
    """Return the machines that can be read, and a line when some cannot: a damaged record costs its measurements, never a run."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            return [], [f"{path}: has format {data['format']!r}, this herdling reads {FORMAT}; measure again: {CALIBRATE}"]
        raws = list(data["machines"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [], [f"{path}: cannot be read as measurements of a machine ({error!r}), so it is not used; measure again: {CALIBRATE}"]
    machines, lines = [], []
    for raw in raws:
        try:
            machines.append(_machine(raw))
        except (KeyError, TypeError, ValueError, AttributeError, SettingsError) as error:  # such as scalars that another version of herdling had
            lines.append(f"{path}: a machine in it cannot be read ({error!r}), so it is not used; measure again: {CALIBRATE}")
    return machines, lines


def _machine(raw: Mapping[str, Any]) -> Machine:
    runs = tuple(FinishedRun(**{**run, "kinds": tuple(run["kinds"])}) for run in raw["runs"] if len(run["kinds"]) == len(KINDS))
    return Machine(
        identity=Identity(**raw["identity"]),
        dtype=raw["dtype"],
        law=StepLaw(**raw["law"]),
        source=raw["source"],
        date=raw["date"],
        ceilings=raw["ceilings"],
        gpu=Gpu(**raw["gpu"]) if raw["gpu"] else None,
        efficiency=Efficiency(**raw["efficiency"]) if raw["efficiency"] else None,
        runs=runs,
    )
