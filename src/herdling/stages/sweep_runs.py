"""The small trainings of a sweep: each in a folder of its own, begun, gone on with, or found done; one after the other, or side by side on cores of their own.

Writes `runs/BUDGET-SIZE/` with `result.json`, `row_losses.npy` (its held-out loss, row by row) and `metrics.jsonl`. A run that stands there finished is not
trained again, one that was interrupted goes on from its checkpoint and ends with the same bits. A run that diverges is a result too: its loss is none, with
the reason.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from math import isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from herdling.base.artifact import beside, remove, write_json_atomic
from herdling.base.errors import DataError, Stopped, TrainingError
from herdling.base.progress import Progress, SilentProgress
from herdling.base.seeds import stream_seed
from herdling.data.mixture import Mixture, plan_mixture
from herdling.data.packing import TokenRows
from herdling.data.token_shards import has_tokens, open_shards
from herdling.evals.row_loss import RowLosses, held_out_rows, row_losses
from herdling.model.precision import take_share
from herdling.model.transformer import Llama
from herdling.plan.sweep_points import Point
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig
from herdling.train.feed import ScheduledFeed
from herdling.train.forward import scorer
from herdling.train.losses import NextToken
from herdling.train.metrics import METRICS
from herdling.train.schedule import plan_schedule
from herdling.train.start import settle_device, train_llama

Row = dict[str, Any]
POLL_SECONDS, SHOW_SECONDS = 0.2, 1.0
TAIL_BYTES = 4096
RESULT, ROW_LOSSES = "result.json", "row_losses.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What all runs of a sweep share; plain values, so that a worker can be given it."""

    folder: Path
    """Of the stage; the runs stand in `runs/` below it."""
    texts: Path
    tokenizer: str
    sources: dict[str, float]
    max_epochs: float
    sequence_length: int
    validation_tokens: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    loop: LoopConfig
    seed: int
    where: str
    measured: dict[str, float] = field(default_factory=dict)
    """Weight of each source in the held-out rows; as in training, if empty."""

    def held_out(self) -> TokenRows:
        """Return the held-out rows that every run is measured on."""
        if not has_tokens(self.texts, "validation"):
            raise DataError(f"{self.texts}: holds out no text, so no two runs could be compared. Raise validation_share in the stage prepare_data")
        shards = open_shards(self.texts, "validation", tokenizer=self.tokenizer)
        return held_out_rows(
            shards,
            {name: weight for name, weight in (self.measured or self.weights()).items() if name in shards},
            max_tokens=self.validation_tokens,
            sequence_length=self.sequence_length,
            seed=stream_seed(self.seed, "held out"),
            where=f"{self.where}.sources",
        )

    def weights(self) -> dict[str, float]:
        """Return the weight of each source: as asked for, or what it holds."""
        train = open_shards(self.texts, "train", tokenizer=self.tokenizer)
        return dict(self.sources) or {name: float(shards.num_tokens) for name, shards in train.items()}

    def rows(self, num_tokens: int) -> TokenRows:
        """Return the rows of a run of this many tokens."""
        train = open_shards(self.texts, "train", tokenizer=self.tokenizer)
        held = {name: shards.num_tokens for name, shards in train.items()}
        plans = plan_mixture(held, self.sources, total_tokens=num_tokens, max_epochs=self.max_epochs, where=f"{self.where}.sources")
        mixture = Mixture(plans, num_rows=-(-num_tokens // self.sequence_length), seed=self.seed)
        return TokenRows(train, mixture, sequence_length=self.sequence_length, seed=self.seed)


def train_point(sweep: Sweep, point: Point, *, progress: Progress, stop_requested: Callable[[], bool]) -> Row:
    """Train one run to its end, or go on with it, and measure it. Returns its row; a run that is done is only read."""
    folder = sweep.folder / "runs" / point.name
    folder.mkdir(parents=True, exist_ok=True)
    # After a kill a worker may still be about to notice that it is alone.
    with FileLock(folder / ".lock", timeout=60):
        if not (folder / RESULT).is_file():
            _train(sweep, point, folder, progress, stop_requested)
        row: Row = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return row


def _train(sweep: Sweep, point: Point, folder: Path, progress: Progress, stop_requested: Callable[[], bool]) -> None:
    batch = f"{point.batch_tokens}@{sweep.sequence_length}"
    schedule = plan_schedule(sweep.schedule, num_tokens=point.num_tokens, batch=batch, sequence_length=None, where=sweep.where)
    device = settle_device(sweep.loop, sweep.folder)
    model = Llama(point.config)
    model.init_weights(stream_seed(sweep.seed, "weights"))
    rows = sweep.rows(schedule.num_tokens)
    reason, losses = "", None
    try:
        train_llama(
            model,
            NextToken(),
            ScheduledFeed(schedule, lambda length: rows),
            schedule=schedule,
            optimizer=sweep.optimizer,
            lr=sweep.optimizer.lr or point.lr,
            loop=sweep.loop,
            device=device,
            folder=folder,
            progress=progress,
            stop_requested=stop_requested,
        )
    except TrainingError as error:
        reason = f"diverged: {error}"
        _wait_for_checkpoints()
    else:
        losses = row_losses(scorer(model), sweep.held_out(), device.device)
        reason = _fault(losses.mean, point.config.vocab_size)
        with beside(folder / ROW_LOSSES) as partial, partial.open("wb") as file:
            np.save(file, np.stack([losses.nats, losses.num_tokens.astype(np.float64)]))
    tokens = schedule.num_tokens
    row = {
        "name": point.name,
        "compute_budget": 6.0 * point.parameters * tokens,
        "parameters": point.parameters,
        "training_tokens": tokens,
        "validation_loss": losses.mean if losses is not None and not reason else None,
        "exact_flops": point.exact_flops / point.num_tokens * tokens,
        "steps": schedule.num_steps,
        "batch_tokens": point.batch_tokens,
        "lr": sweep.optimizer.lr or point.lr,
        "reason": reason,
    }
    write_json_atomic(folder / RESULT, row)
    remove(folder / "checkpoints")


def _wait_for_checkpoints() -> None:
    """Let the last checkpoint be written before it is removed: a loop that gives up does not wait for it."""
    for thread in threading.enumerate():
        if thread.name.startswith("checkpoint-"):
            thread.join()


def _fault(loss: float, vocab_size: int) -> str:
    """Say why a loss has no place in a fit, or nothing."""
    if not isfinite(loss):
        return "diverged: its held-out loss is not a number"
    return f"learned nothing: its held-out loss {loss:.3f} is not below that of guessing, {log(vocab_size):.3f}" if loss >= log(vocab_size) else ""


def measured_rows(folder: Path, names: Sequence[str]) -> dict[str, RowLosses]:
    """Return the held-out losses row by row of the runs that have them."""
    found = {}
    for name in names:
        path = folder / "runs" / name / ROW_LOSSES
        if path.is_file():
            nats, num_tokens = np.load(path)
            found[name] = RowLosses(nats, num_tokens.astype(np.int64))
    return found


def train_points(sweep: Sweep, points: Sequence[Point], *, workers: int, progress: Progress, stop_requested: Callable[[], bool]) -> list[Row]:
    """Train all points, the most expensive first, and return their rows in the order of `points`.

    Raises:
        Stopped: the user asked to stop; all that was trained is saved.
    """
    settle_device(sweep.loop, sweep.folder)
    sweep.held_out()  # what is wrong with the data is said before hours of training
    sweep.rows(max(point.num_tokens for point in points))
    order = sorted(points, key=lambda point: -point.exact_flops)
    bar = _Bar(progress, points)
    trained = _in_turn if workers == 1 else _side_by_side
    rows = {}
    for point, row in trained(sweep, order, bar, workers, stop_requested):
        rows[point.name] = row
        bar.finish(point, row)
    for lock in (sweep.folder / "runs").glob("*/.lock"):
        lock.unlink()
    return [rows[point.name] for point in points]


class _Bar:
    """How far the sweep is, in FLOPs; stands in for the bar of the run that is trained."""

    def __init__(self, progress: Progress, points: Sequence[Point]) -> None:
        self.progress, self.done, self.steps, self.point = progress, 0.0, 1, points[0]
        progress.begin(round(sum(point.exact_flops for point in points) / 1e9), "GFLOPs")

    def begin(self, total: int | None, unit: str) -> None:
        self.steps = total or 1

    def update(self, done: int, **values: Any) -> None:
        self.progress.update(round((self.done + done / self.steps * self.point.exact_flops) / 1e9), run=self.point.name, loss=values.get("loss", ""))

    def note(self, line: str) -> None:
        self.progress.note(f"{self.point.name}: {line}")

    def glance(self, folder: Path, points: Iterable[Point]) -> None:
        """Show how far the runs of other processes are, by what they have written."""
        shares = [tokens_trained(folder / "runs" / point.name) / point.num_tokens * point.exact_flops for point in points]
        self.progress.update(round((self.done + sum(shares)) / 1e9), running=sum(share > 0 for share in shares))

    def finish(self, point: Point, row: Row) -> None:
        """Count a whole run, and say how it ended."""
        self.done += point.exact_flops
        self.progress.update(round(self.done / 1e9))
        loss = row["validation_loss"]
        self.progress.note(f"{point.name}: {row['reason']}" if loss is None else f"{point.name}: {loss:.4f} nats a token on held-out text")


def tokens_trained(folder: Path) -> int:
    """Return how many tokens a run has seen, by the last whole line of its metrics."""
    try:
        with (folder / METRICS).open("rb") as file:
            file.seek(max(0, (folder / METRICS).stat().st_size - TAIL_BYTES))
            return max((int(json.loads(line)["tokens"]) for line in file.read().split(b"\n")[1:-1]), default=0)
    except (OSError, ValueError, KeyError):
        return 0


Trained = Iterator[tuple[Point, Row]]


def _in_turn(sweep: Sweep, order: Sequence[Point], bar: _Bar, workers: int, stop_requested: Callable[[], bool]) -> Trained:
    for point in order:
        bar.point = point
        yield point, train_point(sweep, point, progress=bar, stop_requested=stop_requested)


def _side_by_side(sweep: Sweep, order: Sequence[Point], bar: _Bar, workers: int, stop_requested: Callable[[], bool]) -> Trained:
    """Share the runs among processes, each with its share of the threads. A worker stops when it is asked to, or finds that who started it is gone."""
    context = multiprocessing.get_context("spawn")
    stop, begun = context.Event(), context.Value("i", 0)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(stop, begun, workers, os.getpid())) as pool:
        waiting: dict[Future[Row], Point] = {pool.submit(_work, sweep, point): point for point in order}
        shown = time.monotonic()
        try:
            while waiting:
                done, _ = wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
                if time.monotonic() - shown > SHOW_SECONDS:
                    shown = time.monotonic()
                    bar.glance(sweep.folder, waiting.values())
                if stop_requested():
                    stop.set()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_STOP: list[Callable[[], bool]] = []


def _begin_worker(stop: Any, begun: Any, workers: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us; it tells us by the event
    with begun.get_lock():
        index, begun.value = begun.value, begun.value + 1
    take_share(index, workers)
    _STOP[:] = [lambda: stop.is_set() or os.getppid() != parent]


def _work(sweep: Sweep, point: Point) -> Row:
    if _STOP[0]():
        raise Stopped(f"{sweep.folder}: stopped before {point.name}; the same command goes on")
    return train_point(sweep, point, progress=SilentProgress(), stop_requested=_STOP[0])
