"""Two answers from two model variants, sampled in threads of their own: pages stay quick while models are slow.

Each model has one thread and a queue: requests that wait together are sampled as one batch. A model is loaded once, when it is first asked. What goes wrong is
told to annotators without names (the page is blind) and kept in full for admins.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, Queue
from statistics import median
from threading import Thread

from herdling.base.errors import DataError, HerdlingError, Refused
from herdling.generate.generator import Generator
from herdling.types import Completion, Dialog, Sampling

MAX_BATCH = 16
MAX_WAITING = 256
"""Requests that may wait for one model; more are refused at once instead of never being answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that went wrong, for admins."""

    at: float
    model: str
    message: str


@dataclass(slots=True)
class _Asked:
    dialog: Dialog
    sampling: Sampling
    done: Future[Completion] = field(default_factory=Future)


class Sampler:
    """Samples from named generators. `open` makes one from its name when it is first asked for; `close` ends the threads."""

    def __init__(self, openers: Mapping[str, Callable[[], Generator]]) -> None:
        self._queues: dict[str, Queue[_Asked | None]] = {name: Queue(MAX_WAITING) for name in openers}
        self._threads = [
            Thread(target=self._work, args=(name, openers[name], queue), name=f"sampler {name}", daemon=True) for name, queue in self._queues.items()
        ]
        self.problems: deque[Problem] = deque(maxlen=20)
        self._seconds: deque[float] = deque(maxlen=25)
        for thread in self._threads:
            thread.start()

    @property
    def usual_seconds(self) -> float:
        """How long a pair of answers took lately (median): as long as a hidden item has to take, or it would not be hidden."""
        return median(self._seconds) if self._seconds else 0.0

    async def pair(self, dialog: Dialog, asked: tuple[tuple[str, Sampling], tuple[str, Sampling]]) -> tuple[Completion, Completion]:
        """Return an answer of each (model, sampling), in that order.

        Raises:
            Refused: "models busy", "dialog too long", "model failed"; never with the name of a model.
        """
        began = time.monotonic()
        first, second = await asyncio.gather(*(asyncio.wrap_future(self._ask(model, _Asked(dialog, sampling))) for model, sampling in asked))
        self._seconds.append(time.monotonic() - began)
        if "context_full" in (first.stop_reason, second.stop_reason):
            raise Refused("dialog too long", "an answer did not fit into the model's context. Begin a new conversation, or write a shorter prompt")
        return first, second

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for queue in self._queues.values():
            queue.put(None)

    def _ask(self, model: str, asked: _Asked) -> Future[Completion]:
        queue = self._queues.get(model)
        if queue is None:
            self._note(model, "no such model was given to this server; start it again with --model, or correct the campaign's models")
            raise Refused("model failed", "a model of this campaign is not loaded here. Tell whoever runs this server: the dashboard says which")
        if queue.full():
            raise Refused("models busy", f"{MAX_WAITING} others are waiting for answers. Try again in a minute: your prompt is kept")
        queue.put_nowait(asked)
        return asked.done

    def _work(self, name: str, opener: Callable[[], Generator], queue: Queue[_Asked | None]) -> None:
        """Serve one model's queue until None comes."""
        generator: Generator | None = None
        while (first := queue.get()) is not None:
            batch = [first, *_waiting(queue, MAX_BATCH - 1)]
            try:
                generator = generator or opener()
            except Exception as error:
                self._fail(name, batch, error)
            else:
                self._sample(name, generator, batch)

    def _sample(self, name: str, generator: Generator, batch: list[_Asked]) -> None:
        try:
            completions = generator.chat_batch([one.dialog for one in batch], [one.sampling for one in batch])
        except Exception as error:
            if len(batch) == 1:
                self._fail(name, batch, error)
                return
            for one in batch:  # one dialog's fault is not its neighbours'
                self._sample(name, generator, [one])
            return
        for one, completion in zip(batch, completions, strict=True):
            if not one.done.cancelled():
                one.done.set_result(completion)

    def _fail(self, name: str, batch: list[_Asked], error: Exception) -> None:
        self._note(name, str(error) if isinstance(error, HerdlingError) else f"{type(error).__name__}: {error}")
        if isinstance(error, DataError):
            refused = Refused("dialog too long", "a model cannot read all of this conversation. Begin a new one, or write a shorter prompt")
        else:
            refused = Refused("model failed", "a model did not answer. Try again; if it goes on, tell whoever runs this server: the dashboard says what to do")
        for one in batch:
            if not one.done.cancelled():
                one.done.set_exception(refused)

    def _note(self, model: str, message: str) -> None:
        self.problems.append(Problem(at=time.time(), model=model, message=message))
        print(f"model {model}: {message}", file=sys.stderr)


def _waiting(queue: Queue[_Asked | None], most: int) -> list[_Asked]:
    """Take what waits already, without waiting for more."""
    taken: list[_Asked] = []
    while len(taken) < most:
        try:
            one = queue.get_nowait()
        except Empty:
            break
        if one is None:
            queue.put(None)
            break
        taken.append(one)
    return taken
