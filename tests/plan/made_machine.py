"""A made machine: the law of the real one that the defaults were fitted to, as much faster as a test wants."""

from __future__ import annotations

from herdling.plan.machine import FinishedRun, Identity, Machine
from herdling.plan.step_time import StepLaw

TWO_CORES = 0.47
"""Seconds of two cores over seconds of the one that the law's defaults belong to: so 1.3M parameters learn 36K tokens a second, as measured."""


def made_identity(**changes: object) -> Identity:
    parts: dict[str, object] = {"processor": "Made CPU (avx2 amx_bf16)", "cores": 2, "gpu": "", "torch": "2.11.0"}
    return Identity(**{**parts, **changes})  # type: ignore[arg-type]


def made_machine(speed: float = 1.0, **changes: object) -> Machine:
    """Return a machine that is so many times as fast as the one with two cores."""
    parts: dict[str, object] = {
        "identity": made_identity(),
        "dtype": "bfloat16",
        "law": StepLaw().scaled(TWO_CORES / speed, spread=0.1),
        "source": "what was measured here on 2026-11-29",
        "date": "2026-11-29",
        "ceilings": {"product bfloat16 1024": 1.5e12, "memory": 1e10},
    }
    return Machine(**{**parts, **changes})  # type: ignore[arg-type]


def made_run(step_seconds: float, *, work: str = "next token", number: int = 0, dtype: str = "bfloat16") -> FinishedRun:
    """Return a run whose step the law forecasts at one second when every kind of work but the first is 0."""
    return FinishedRun(
        work=work, kinds=(1.0,) + (0.0,) * 6, forecast_seconds=1.0, step_seconds=step_seconds, steps=100 + number, date="2026-11-29", dtype=dtype
    )
