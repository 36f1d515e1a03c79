"""What happens between two steps: metrics to disk, validation, checkpoints, progress, and the wish to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from herdling.base.errors import Stopped
from herdling.base.progress import Progress
from herdling.checkpoint.training import Checkpoints
from herdling.train.config import CheckpointConfig
from herdling.train.guard import Guard
from herdling.train.metrics import Meter, MetricsLog
from herdling.train.schedule import Schedule

Validate = Callable[[], Mapping[str, float]]


@dataclass(slots=True, kw_only=True)
class RunState:
    """The plain part of a run's state; the tensors are the optimizer's, the guard's and the random generators'."""

    feed: str
    """Fingerprint of the order of the data."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Time in the loop up to the last checkpoint, over all processes that worked on this run."""
    num_skipped: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    """Bits per byte by source, when last measured."""


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Records the steps of one run, into `folder`."""

    folder: Path
    state: RunState
    tensors: Callable[[], dict[str, Tensor]]
    """Returns the tensors of the run's state, live."""
    schedule: Schedule
    guard: Guard
    checkpoints: Checkpoints
    config: CheckpointConfig
    log: MetricsLog
    meter: Meter
    validate: Validate | None
    validate_every: int
    progress: Progress
    stop_requested: Callable[[], bool]
    last: dict[str, Any] = field(init=False, default_factory=dict)
    """The newest line of metrics."""
    started: float = field(init=False)
    saved_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.saved_at = time.perf_counter()

    def after_step(self) -> None:
        """Record the step that was just finished. Validation comes before the checkpoint, so that no resume can leave it out."""
        step, finished = self.state.step, self.state.step == self.schedule.num_steps
        stop = not finished and self.stop_requested()
        validate = self.validate is not None and (finished or (self.validate_every > 0 and step % self.validate_every == 0))
        save = finished or stop or self._save_due()
        if validate or save or self.meter.due():
            self.flush()
        if validate:
            self.run_validation()
        if save:
            self.save()
        if stop:
            self.checkpoints.wait()
            raise Stopped(f"{self.folder}: stopped after step {step:,} of {self.schedule.num_steps:,}; all is saved, the same command goes on")

    def flush(self) -> None:
        """Write the held metrics, show the last, and give up when the guard has skipped too much."""
        lines = self.meter.flush()
        if not lines:
            return
        seconds = round(self._seconds(), 3)
        for line in lines:
            line["seconds"] = seconds
            self.state.num_skipped += int(line["skipped"])
        self.log.write(lines)
        self.last = lines[-1]
        loss = "not a number" if self.last["loss"] is None else self.last["loss"]
        skipped = {"skipped": self.state.num_skipped} if self.state.num_skipped else {}
        self.progress.update(self.state.step, loss=loss, lr=self.last["lr"], tokens_per_second=self.last["tokens_per_second"], **skipped)
        self.guard.check(max(line["skipped_in_a_row"] for line in lines), self.state.step)

    def run_validation(self) -> None:
        """Validate, write one line a source, and say it."""
        assert self.validate is not None
        with self.meter.aside():
            measured = self.state.validation = dict(self.validate())
        facts = {"split": "validation", "step": self.state.step, "tokens": self.schedule.tokens_before(self.state.step)}
        self.log.write([{**facts, "source": source, "bits_per_byte": value} for source, value in measured.items()])
        self.progress.note(f"step {self.state.step:,}: bits per byte " + ", ".join(f"{source} {value:.3f}" for source, value in measured.items()))

    def save(self) -> None:
        """Begin to write a checkpoint of this step."""
        with self.meter.aside():
            self.checkpoints.save(self.state.step, self.tensors(), {**asdict(self.state), "seconds": self._seconds()})
        self.saved_at = time.perf_counter()

    def summary(self) -> dict[str, Any]:
        """Return small numbers about the run; bits per byte only of one that validates."""
        loss, speeds = self.last.get("loss"), self.meter.summary()
        return {
            "steps": self.state.step,
            "tokens": self.schedule.num_tokens,
            **({"loss": round(loss, 4)} if loss is not None else {}),
            **({"skipped_steps": self.state.num_skipped} if self.state.num_skipped else {}),
            "tokens_per_second": speeds.pop("tokens_per_second"),
            "speed": speeds,
            **({"bits_per_byte": {source: round(value, 4) for source, value in self.state.validation.items()}} if self.validate else {}),
        }

    def _save_due(self) -> bool:
        in_steps = self.config.every_steps is not None and self.state.step % self.config.every_steps == 0
        return in_steps or time.perf_counter() - self.saved_at >= self.config.every_seconds

    def _seconds(self) -> float:
        return self.state.seconds + time.perf_counter() - self.started
