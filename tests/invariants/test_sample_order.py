"""The order of samples depends on (seed, position) alone: not on ranks, not on workers, not on interruptions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.base.ledger import Ledger
from herdling.data.dialog_rows import DialogRows, encode_dialogs
from herdling.data.loader import Loader, RowSource, resume_position
from herdling.data.mixture import Mixture, plan_mixture
from herdling.data.packing import TokenRows
from herdling.types import Batch
from tests.data.toy_tokens import ToyChatFormat, dialog, make_shards, random_texts

FIELDS = ("input_ids", "labels", "loss_mask", "position_ids", "document_ids")


def token_rows(folder: Path) -> RowSource:
    shards = {name: make_shards(folder, name, count, seed, longest=90) for seed, (name, count) in enumerate([("a", 3), ("b", 40), ("c", 90)])}
    plans = plan_mixture({name: shard.num_tokens for name, shard in shards.items()}, {"a": 0.2, "b": 0.3, "c": 0.5}, total_tokens=200 * 32, max_epochs=30)
    return TokenRows(shards, Mixture(plans, num_rows=200, seed=7), sequence_length=32, seed=7)


def dialog_rows(folder: Path) -> RowSource:
    texts = random_texts(240, longest=12)
    made = [dialog(question, answer) for question, answer in zip(texts[::2], texts[1::2], strict=True)]
    encoded = encode_dialogs(made, ToyChatFormat(), Ledger("sft"), sequence_length=32)  # type: ignore[arg-type]
    return DialogRows(encoded, sequence_length=32, epochs=2, seed=7)


@pytest.fixture(scope="module", params=[token_rows, dialog_rows], ids=["pre-training", "fine-tuning"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RowSource:
    made: RowSource = request.param(tmp_path_factory.mktemp("rows"))
    return made


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


def joined(batches: list[Batch]) -> Batch:
    return Batch(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in FIELDS})


def steps(rows: RowSource, **options: int) -> list[Batch]:
    with Loader(rows, 8, **options) as loader:
        return list(loader)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_one_two_and_four_ranks_see_the_same_global_steps(rows: RowSource, world_size: int, prefetch: int) -> None:
    ranks = [steps(rows, rank=rank, world_size=world_size, prefetch=prefetch) for rank in range(world_size)]
    for alone, *shared in zip(steps(rows), *ranks, strict=True):
        assert equal(alone, joined(shared))


@settings(max_examples=20, deadline=None)
@given(stop=st.integers(0, 12), world_size=st.sampled_from([1, 2, 4]))
def test_an_interrupted_run_goes_on_with_exactly_the_next_step_on_any_number_of_ranks(rows: RowSource, stop: int, world_size: int) -> None:
    with Loader(rows, 8) as loader:
        for _ in range(stop):
            next(loader, None)
        position = resume_position(loader.state, rows)
    rest = [steps(rows, rank=rank, world_size=world_size, position=position) for rank in range(world_size)]
    whole = steps(rows)[stop:]
    assert len(rest[0]) == len(whole)
    assert all(equal(joined(list(parts)), step) for parts, step in zip(zip(*rest, strict=True), whole, strict=True))


def test_the_same_files_in_another_place_give_the_same_rows(rows: RowSource, tmp_path: Path) -> None:
    again = token_rows(tmp_path) if isinstance(rows, TokenRows) else dialog_rows(tmp_path)
    assert again.fingerprint == rows.fingerprint
    assert equal(again.rows(0, again.num_rows), rows.rows(0, rows.num_rows))
