"""What others take of the processor, from two moments."""

from __future__ import annotations

import pytest

from herdling.base.crowd import Moment, crowding, moment


@pytest.mark.parametrize(
    ("everyone", "own", "threads", "cores", "taken"),
    [
        (20.0, 19.5, 2, 2, 0.0),  # ten seconds of two cores, nearly all of it ours
        (20.0, 12.0, 2, 2, 0.8),  # others had eight seconds of the cores that we would have used
        (20.0, 9.8, 1, 2, 0.0),  # the other core was busy with others: it was free for them
        (20.0, 5.0, 1, 2, 0.5),
        (160.0, 0.0, 2, 16, 2.0),
        (100.0, 20.0, 2, 16, 0.0),
    ],
)
def test_only_what_is_taken_from_our_own_cores_counts(everyone: float, own: float, threads: int, cores: int, taken: float) -> None:
    assert crowding(Moment(0.0, 0.0, 0.0), Moment(10.0, everyone, own), threads=threads, cores=cores) == taken


def test_where_nobody_can_tell_nobody_is_blamed() -> None:
    assert crowding(None, moment(), threads=1, cores=1) == 0.0
    same = Moment(5.0, 5.0, 5.0)
    assert crowding(same, same, threads=1, cores=1) == 0.0
