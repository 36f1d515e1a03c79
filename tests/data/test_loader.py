"""The loader: the same stream on any number of ranks, exact state, the last step filled up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdling.base.errors import CheckpointError, SettingsError
from herdling.data.loader import Loader, resume_position
from herdling.data.mixture import Mixture, plan_mixture
from herdling.data.packing import TokenRows
from tests.data.toy_tokens import make_shards


@pytest.fixture
def rows(tmp_path: Path) -> TokenRows:
    shards = make_shards(tmp_path)
    plans = plan_mixture({"books": shards.num_tokens}, {}, total_tokens=4096)
    return TokenRows({"books": shards}, Mixture(plans, num_rows=70, seed=1), sequence_length=32, seed=1)


def collect(rows: TokenRows, rows_per_step: object = 8, **options: int) -> list[torch.Tensor]:
    with Loader(rows, rows_per_step, **options) as loader:  # type: ignore[arg-type]
        return [batch.input_ids for batch in loader]


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_steps_are_the_rows_in_order(rows: TokenRows, prefetch: int) -> None:
    steps = collect(rows, prefetch=prefetch)
    assert torch.equal(torch.cat(steps)[:70], rows.rows(0, 70).input_ids)


def test_the_last_step_is_filled_up_with_padding_that_nothing_learns_from(rows: TokenRows) -> None:
    with Loader(rows, 8) as loader:
        steps = list(loader)
    assert [len(step.input_ids) for step in steps] == [8] * 9
    assert not steps[-1].loss_mask[6:].any()
    assert (steps[-1].document_ids[6:] == -1).all()
    assert loader.position == 70


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_global_stream_is_the_same_on_any_number_of_ranks(rows: TokenRows, world_size: int) -> None:
    ranks = [collect(rows, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = torch.cat([torch.cat(step) for step in zip(*ranks, strict=True)])
    assert torch.equal(together, torch.cat(collect(rows)))


@pytest.mark.parametrize("stop", [0, 1, 4, 8])
def test_going_on_from_a_state_gives_exactly_the_next_steps(rows: TokenRows, stop: int) -> None:
    with Loader(rows, 8, prefetch=3) as loader:
        for _ in range(stop):
            next(loader)
        state = loader.state
    assert state["position"] == 8 * stop
    rest = collect(rows, position=resume_position(state, rows))
    assert torch.equal(torch.cat(rest), torch.cat(collect(rows)[stop:]))


def test_a_state_of_other_rows_is_refused(rows: TokenRows) -> None:
    with pytest.raises(CheckpointError, match="the saved position 8 belongs to other rows"):
        resume_position({"position": 8, "fingerprint": "other"}, rows)


def test_steps_may_grow_with_the_position(rows: TokenRows) -> None:
    sizes = [len(step) for step in collect(rows, lambda position: 4 if position < 16 else 16)]
    assert sizes == [4, 4, 4, 4, 16, 16, 16, 16]


def test_a_step_that_the_ranks_cannot_share_is_refused(rows: TokenRows) -> None:
    with pytest.raises(SettingsError, match="a step of 8 rows cannot be shared evenly by 3 ranks"):
        collect(rows, world_size=3)


def test_a_fault_in_the_thread_is_raised_where_the_step_is_taken(rows: TokenRows) -> None:
    class Broken:
        num_rows, sequence_length, fingerprint = 10, 4, ""

        def rows(self, start: int, count: int):  # type: ignore[no-untyped-def]
            raise OSError("disk gone")

    with Loader(Broken(), 2) as loader, pytest.raises(OSError, match="disk gone"):
        next(loader)
