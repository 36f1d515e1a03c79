"""Loader: the steps of training, one after the other, prepared ahead by a thread.

The global order of rows is a pure function of position: step after step takes the next rows, and each rank its own stretch of them. So the token stream is
the same on 1, 2 or 4 ranks, and the exact state is one number. Rows come from any `RowSource`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from herdling.base.errors import CheckpointError, SettingsError
from herdling.data.batch import concatenate_rows, padding_rows
from herdling.types import Batch


class RowSource(Protocol):
    """Rows by number. `rows` is a pure function: the same numbers give the same rows, in any order of asking, on any machine."""

    num_rows: int
    sequence_length: int
    fingerprint: str

    def rows(self, start: int, count: int) -> Batch:
        """Return rows `start` to `start + count`, `[count, T]`."""
        ...


class Loader:
    """Iterate over steps; each yields this rank's rows of the global step. Make a new one to start elsewhere; `close` it (or use `with`) when done.

    `rows_per_step` is a number, or a function of the position (rows before this step) for batch sizes that grow. When the rows run out inside a step it is
    filled up with rows of padding, so that every step has its full shape on every rank and no row is lost. `position` counts the global rows of the steps
    that were handed out.
    """

    def __init__(
        self,
        source: RowSource,
        rows_per_step: int | Callable[[int], int],
        *,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
        prefetch: int = 2,
    ) -> None:
        self.source = source
        self.rank, self.world_size = rank, world_size
        self.position = position
        self._rows_at: Callable[[int], int] = rows_per_step if callable(rows_per_step) else lambda _: rows_per_step
        self._next = position
        self._prefetch = max(1, prefetch)
        self._waiting: list[tuple[int, Future[Batch]]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") if prefetch else None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self._fill()
        if not self._waiting:
            raise StopIteration
        end, future = self._waiting.pop(0)
        batch = future.result()
        self.position = end
        if self._thread is not None:
            self._fill()
        return batch

    def _fill(self) -> None:
        while len(self._waiting) < self._prefetch and self._next < self.source.num_rows:
            start, count = self._next, self._rows_at(self._next)
            if count % self.world_size:
                raise SettingsError(f"a step of {count} rows cannot be shared evenly by {self.world_size} ranks. Choose a multiple of {self.world_size}")
            self._next = min(start + count, self.source.num_rows)
            if self._thread is not None:
                future = self._thread.submit(self._load, start, count)
            else:
                future = Future()
                future.set_result(self._load(start, count))
            self._waiting.append((self._next, future))

    def _load(self, start: int, count: int) -> Batch:
        mine = count // self.world_size
        first = start + self.rank * mine
        there = max(0, min(mine, self.source.num_rows - first))
        if there == mine:
            return self.source.rows(first, mine)
        missing = padding_rows(mine - there, self.source.sequence_length)
        return concatenate_rows([self.source.rows(first, there), missing]) if there else missing

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on with exactly the next step."""
        return {"position": self.position, "fingerprint": self.source.fingerprint}

    def close(self) -> None:
        """Stop the thread; rows made ahead are forgotten, `position` stays."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resume_position(state: dict[str, Any], source: RowSource) -> int:
    """Return the position to go on at. Raises `CheckpointError` when the rows are not those that the state was saved with."""
    if state["fingerprint"] != source.fingerprint:
        raise CheckpointError(
            f"the saved position {state['position']:,} belongs to other rows ({state['fingerprint'][:12]}) than these ({source.fingerprint[:12]}):"
            " the tokens, the mixture, the seed or the sequence length has changed since. Start the stage anew"
        )
    return int(state["position"])
