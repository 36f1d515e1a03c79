"""Work in chunks that survive a kill: what was made of a chunk is on disk before the next one begins, and is never made twice.

The rows of a chunk stand in `chunks/PART/NUMBER.jsonl` below the folder of the stage until it is done. Memory: one chunk, however often the rows are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from herdling.base.artifact import remove
from herdling.base.errors import Stopped
from herdling.base.records import read_jsonl, write_jsonl
from herdling.stages.registry import StageRun

CHUNKS = "chunks"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked(Generic[T]):
    """The rows that `make` gives for items, `size` items at a time. Iterate as often as you like: each chunk is made by the first that comes to it."""

    run: StageRun
    part: str
    items: Sequence[T]
    size: int
    make: Callable[[Sequence[T]], Sequence[Mapping[str, Any]]]
    done_before: int = 0
    """Items of other parts that are done already, for the progress."""
    shows_progress: bool = True
    """False where the progress counts something else than items."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield every row in order. Raises `Stopped` between two chunks when the user asked to stop."""
        for number, start in enumerate(range(0, len(self.items), self.size)):
            path = self.run.folder / CHUNKS / self.part / f"{number:05d}.jsonl"
            if not path.is_file():
                if self.run.stop_requested():
                    raise Stopped(f"{self.run.name}: stopped after {self.done_before + start:,} of the prompts; the same command goes on")
                write_jsonl(path, self.make(self.items[start : start + self.size]))
                if self.shows_progress:
                    self.run.progress.update(self.done_before + min(start + self.size, len(self.items)))
            for _, row in read_jsonl(path):
                yield row


def remove_chunks(run: StageRun) -> None:
    """Remove what stood between."""
    remove(run.folder / CHUNKS)
