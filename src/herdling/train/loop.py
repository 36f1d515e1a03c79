"""The one training loop: pre-training, fine-tuning, and every objective to come.

A step is: draw a batch, run its micro-batches, add gradients in float32, judge, clip, move. Objectives are values (`train/losses.py`), data is any iterator of
batches that can begin at step n (a generator that samples from the model being trained is one), other ranks are reached through `Ranks`. The loop writes
`metrics.jsonl` and `checkpoints/` into its folder and nothing else; killed at any point and run again it ends with the same bits.

It does not build the model, read text, or know recipes: stages do. Its own cost is 0.3 ms a step on a CPU (metrics, guard, progress).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from herdling.base.errors import CheckpointError, TrainingError
from herdling.base.progress import Progress, SilentProgress
from herdling.checkpoint.training import Checkpoints
from herdling.train.config import CheckpointConfig, GuardConfig
from herdling.train.forward import Score
from herdling.train.guard import Guard
from herdling.train.losses import Objective, Stateful
from herdling.train.metrics import Meter, MetricsLog, peak_flops, peak_memory
from herdling.train.optim import Optimizer
from herdling.train.recorder import Recorder, RunState, Validate
from herdling.train.schedule import Schedule
from herdling.types import Batch

AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Feed(Protocol):
    """Where batches come from: for each step the rows of this rank, a pure function of the step."""

    fingerprint: str
    """Names the order of the data: a resume against another order is refused."""

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield the batch of this step (from 0), then of each following one."""
        ...


class Ranks(Protocol):
    """The other processes that train the same model."""

    size: int

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place."""
        ...


class OneRank:
    """A single process: its sums are the sums."""

    size = 1

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""


@dataclass(slots=True, kw_only=True)
class Loop:
    """One training run. `run` starts it, or goes on from the newest checkpoint in `folder`."""

    score: Score
    """The forward: batch -> scores. Owned by whoever wraps the model (compiled, sharded, pipelined)."""
    objective: Objective
    feed: Feed
    schedule: Schedule
    optimizer: Optimizer
    lr: float
    """Peak learning rate; the schedule gives each step its share."""
    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    micro_batch_tokens: int = 1 << 62
    """Run a batch in pieces of at most this many tokens (at least one row), with gradients added up: the result is the same up to rounding."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    validate: Validate | None = None
    """Returns bits per byte by source; called every `validate_every` steps and after the last."""
    validate_every: int = 0
    flops_per_token: float | None = None
    peak: float | None = None
    """Peak of the device in FLOP/s, for MFU. Unset: from a table of known GPUs, else MFU is "n/a"."""
    may_end_early: bool = False
    """The feed may end before the schedule does, as where a held-out reward no longer rises: then training is over."""
    ranks: Ranks = field(default_factory=OneRank)
    progress: Progress = field(default_factory=SilentProgress)
    stop_requested: Callable[[], bool] = lambda: False

    def run(self) -> dict[str, Any]:
        """Train to the end of the schedule. Returns small numbers for the manifest: speeds, memory, last loss and validation.

        Raises:
            Stopped: the user asked to stop; the state of the last finished step is on disk.
            TrainingError: too many steps in a row had to be skipped, or the data ended early.
            CheckpointError: the state on disk is damaged or of another run.
            StorageError: the disk is full; the checkpoints before are whole.
        """
        state, guard = RunState(feed=self.feed.fingerprint), Guard(self.guard, self.device)
        recorder = self._recorder(state, guard)
        self.progress.begin(self.schedule.num_steps, "steps")
        batches = self.feed.batches(state.step)
        try:
            with frozen_garbage():
                while state.step < self.schedule.num_steps:
                    with recorder.meter.waiting():
                        batch = next(batches, None)
                    if batch is None:
                        if self.may_end_early:
                            break
                        raise TrainingError(f"the data ended at step {state.step:,} of {self.schedule.num_steps:,}: give more data or fewer tokens to train on")
                    self.train_step(state.step, batch, guard, recorder.meter)
                    state.step += 1
                    recorder.after_step()
            recorder.flush()
            recorder.checkpoints.wait()
        finally:
            recorder.log.close()
            if isinstance(batches, Generator):
                batches.close()  # stops a loader's threads
        summary = recorder.summary()
        summary["speed"]["peak_memory_bytes"] = peak_memory(self.device)
        return summary

    def train_step(self, step: int, batch: Batch, guard: Guard, meter: Meter) -> None:
        """Move the weights by one global batch, of which this rank holds some rows."""
        num_tokens = int((batch.document_ids >= 0).sum())
        count = torch.tensor(self.objective.count(batch), device=self.device)
        self.ranks.add_up([count])
        sums: dict[str, Tensor] = {}
        for part in micro_batches(batch, self.micro_batch_tokens):
            part = to_device(part, self.device)
            with torch.no_grad():
                part = self.objective.prepare(part)
            loss, metrics = self.objective.loss(self.score(part), part)
            # Divided by the count of the whole step over all ranks: a mean of means would weigh tokens by their neighbours.
            torch.autograd.backward(loss / count.clamp(min=1))
            self.optimizer.accumulate()
            for name, value in {"loss": loss, **metrics}.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        self.ranks.add_up([*self.optimizer.gradients, *sums.values()])
        means = {name: value / count.clamp(min=1) for name, value in sums.items()}
        norm = self.optimizer.gradient_norm()
        skip = guard.judge(means["loss"], norm)
        lr = self.lr * self.schedule.lr_share(step)
        self.optimizer.step(lr, norm, skip)
        facts = {"split": "train", "step": step + 1, "tokens": self.schedule.tokens_before(step + 1), "lr": lr}
        values = {**means, "grad_norm": norm, "skipped": skip, "skipped_in_a_row": guard.num_in_a_row, "supervised": count}
        meter.add(facts, values, num_tokens=num_tokens * self.ranks.size)

    def _recorder(self, state: RunState, guard: Guard) -> Recorder:
        """Restore the newest checkpoint, if there is one, and open the records at its step."""
        checkpoints = Checkpoints(self.folder / "checkpoints", keep=self.checkpoint.keep, say=self.progress.note)
        self._restore(checkpoints, state, guard)
        return Recorder(
            folder=self.folder,
            state=state,
            tensors=lambda: self._tensors(guard),
            schedule=self.schedule,
            guard=guard,
            checkpoints=checkpoints,
            config=self.checkpoint,
            log=MetricsLog(self.folder, step=state.step),
            meter=Meter(flops_per_token=self.flops_per_token, peak=self.peak or peak_flops(self.device)),
            validate=self.validate,
            validate_every=self.validate_every,
            progress=self.progress,
            stop_requested=self.stop_requested,
        )

    def _restore(self, checkpoints: Checkpoints, state: RunState, guard: Guard) -> None:
        tensors = self._tensors(guard)
        facts = checkpoints.restore(tensors)
        if facts is None:
            return
        if facts["feed"] != state.feed:
            raise CheckpointError(
                f"{checkpoints.folder}: was trained on other data or in another order ({facts['feed'][:12]}, now {state.feed[:12]})."
                " Go on with the same data, or remove that folder to train from the start"
            )
        self.optimizer.restored()
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        for name, value in facts.items():
            setattr(state, name, value)
        self.progress.note(f"goes on after step {state.step:,} of {self.schedule.num_steps:,}")

    def _tensors(self, guard: Guard) -> dict[str, Tensor]:
        """Return all tensors of the run's state, live where they are weights, moments, or what guard and objective remember."""
        random = {"random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["random.cuda"] = torch.cuda.get_rng_state(self.device)
        remembered = self.objective.state() if isinstance(self.objective, Stateful) else {}
        return {**self.optimizer.state(), **guard.state(), **random, **{f"objective.{name}": tensor for name, tensor in remembered.items()}}


def micro_batches(batch: AnyBatch, max_tokens: int) -> Iterator[AnyBatch]:
    """Cut a batch into pieces of whole rows with at most `max_tokens` tokens each, at least one row."""
    num_rows, length = batch.input_ids.shape
    rows = max(1, max_tokens // length)
    if rows >= num_rows:
        yield batch
        return
    for start in range(0, num_rows, rows):
        yield _each_tensor(batch, lambda tensor, start=start: tensor[start : start + rows])  # type: ignore[misc]


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """Move a batch's tensors; those that are there already are not copied."""
    return _each_tensor(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _each_tensor(batch: AnyBatch, change: Callable[[Tensor], Tensor]) -> AnyBatch:
    """Apply a change to every tensor of a batch, also of one that an objective has extended."""
    values = {item.name: getattr(batch, item.name) for item in fields(batch)}
    return replace(batch, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Keep Python's garbage collector from walking over all that exists before training: it costs up to 0.5 s at random steps."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
