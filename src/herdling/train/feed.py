"""The rows of a source dealt out step by step along a schedule, also where batch size and sequence length grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from herdling.base.artifact import value_fingerprint
from herdling.data.loader import Loader, RowSource
from herdling.train.schedule import Schedule
from herdling.types import Batch


class ScheduledFeed:
    """A `Feed` over rows. `source_of(sequence_length)` gives the rows of that length; row k of length T begins at token k*T of the run.

    Where the sequence length changes, the new rows begin at the tokens seen so far: sources of a mixture then move by less than one row each.
    """

    def __init__(self, schedule: Schedule, source_of: Callable[[int], RowSource], *, rank: int = 0, world_size: int = 1) -> None:
        self.schedule = schedule
        self.sources = {phase.sequence_length: source_of(phase.sequence_length) for phase in schedule.phases}
        self.rank, self.world_size = rank, world_size
        phases = [[phase.first_step, phase.batch_tokens, phase.sequence_length] for phase in schedule.phases]
        self.fingerprint = value_fingerprint([phases, [source.fingerprint for source in self.sources.values()]])

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield this rank's rows of each step, from `step` to the end of the schedule."""
        ends = [phase.first_step for phase in self.schedule.phases[1:]] + [self.schedule.num_steps]
        for phase, end in zip(self.schedule.phases, ends, strict=True):
            if step >= end:
                continue
            first_row = -(-phase.first_token // phase.sequence_length)
            position = first_row + (step - phase.first_step) * phase.rows
            source = self.sources[phase.sequence_length]
            with Loader(source, phase.rows, rank=self.rank, world_size=self.world_size, position=position) as loader:
                yield from islice(loader, end - step)
            step = end
