"""Rows: every token once an epoch, every prediction once, no document in sight of its neighbour. Against a plain loop over documents."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdling.base.seeds import stream
from herdling.data.mixture import Mixture, plan_mixture
from herdling.data.packing import DocumentRows, DocumentStream, TokenRows, pack_best_fit
from herdling.data.token_shards import TokenShards
from tests.data.toy_tokens import make_shards

LENGTH = 48


def plain_stream(shards: TokenShards, seed: int, epochs: int) -> list[tuple[int, int, int]]:
    """(token, document, position in the document), one shuffled epoch after the other."""
    found = []
    for epoch in range(epochs):
        for number, document in enumerate(stream(seed, "documents", shards.source, epoch).permutation(shards.num_documents)):
            found += [(int(token), epoch * shards.num_documents + number, index) for index, token in enumerate(shards.document(int(document)))]
    return found


def shuffled_rows(shards: TokenShards, seed: int, num_rows: int) -> list[int]:
    """Which row of the plain stream stands at each place: shuffled among as many rows as an epoch fills."""
    turn = shards.num_tokens // LENGTH
    orders = [stream(seed, "rows", shards.source, number).permutation(turn) for number in range(-(-num_rows // turn))]
    return [number * turn + int(row) for number, order in enumerate(orders) for row in order][:num_rows]


def token_rows(shards: dict[str, TokenShards], num_rows: int, seed: int = 3) -> TokenRows:
    plans = plan_mixture({name: shard.num_tokens for name, shard in shards.items()}, {}, total_tokens=num_rows * LENGTH)
    return TokenRows(shards, Mixture(plans, num_rows=num_rows, seed=seed), sequence_length=LENGTH, seed=seed)


def test_rows_are_the_shuffled_stream_cut_in_lengths_over_epochs(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, longest=100)
    expected = plain_stream(shards, 3, 5)
    num_rows = 3 * (shards.num_tokens // LENGTH)
    order = shuffled_rows(shards, 3, num_rows)
    assert sorted(order) == list(range(num_rows))
    assert order != sorted(order)
    batch = token_rows({"books": shards}, num_rows).rows(0, num_rows)
    for row, place in enumerate(order):
        cut = expected[place * LENGTH : (place + 1) * LENGTH + 1]
        assert batch.input_ids[row].tolist() == [token for token, _, _ in cut[:-1]]
        same = [here[1] == after[1] for here, after in pairwise(cut)]
        assert batch.loss_mask[row].tolist() == same
        assert batch.labels[row].tolist() == [after[0] if kept else 0 for after, kept in zip(cut[1:], same, strict=True)]
        first = cut[0][1]
        assert batch.document_ids[row].tolist() == [document - first for _, document, _ in cut[:-1]]
        # A document that goes on from the row before starts anew at position 0.
        began = [0] + [index if here[1] != before[1] else -1 for index, (before, here) in enumerate(pairwise(cut[:-1]), start=1)]
        last = np.maximum.accumulate(began)
        assert batch.position_ids[row].tolist() == (np.arange(LENGTH) - last).tolist()


def test_every_token_is_an_input_once_an_epoch_and_predicted_once_unless_it_begins_a_document(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, count=LENGTH * 2, longest=60)
    stream_ = DocumentStream(shards, sequence_length=LENGTH, seed=1)
    tokens, starts = stream_.read(0, shards.num_tokens)
    assert sorted(tokens) == sorted(shards.tokens)
    assert starts.sum() == shards.num_documents
    assert (tokens[starts] == 256).all()


def test_any_stretch_of_the_stream_can_be_read_alone(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, count=7, longest=30)
    expected = plain_stream(shards, 5, 6)
    stream_ = DocumentStream(shards, sequence_length=LENGTH, seed=5)
    generator = np.random.Generator(np.random.PCG64(0))
    for _ in range(200):
        first, last = sorted(generator.choice(len(expected), 2, replace=False).tolist())
        tokens, starts = stream_.read(first, last)
        assert tokens.tolist() == [token for token, _, _ in expected[first:last]]
        assert starts.tolist() == [index == 0 for _, _, index in expected[first:last]]


def test_rows_do_not_depend_on_how_they_are_asked_for(tmp_path: Path) -> None:
    shards = {name: make_shards(tmp_path, name, count, seed) for seed, (name, count) in enumerate([("a", 5), ("b", 30), ("c", 60)])}
    rows = token_rows(shards, 300)
    whole = rows.rows(0, 300)
    for start, count in [(299, 1), (0, 1), (60, 10), (100, 200)]:
        part = rows.rows(start, count)
        assert (part.input_ids == whole.input_ids[start : start + count]).all()
        assert (part.labels == whole.labels[start : start + count]).all()
        assert (part.document_ids == whole.document_ids[start : start + count]).all()


def test_a_row_holds_one_source_and_sources_count_on(tmp_path: Path) -> None:
    shards = {name: make_shards(tmp_path, name, 20, seed) for seed, name in enumerate("ab")}
    rows = token_rows(shards, 100)
    sources, _ = rows.mixture.rows(0, 100)
    batch = rows.rows(0, 100)
    for number, name in enumerate("ab"):
        mine = batch.input_ids[np.flatnonzero(sources == number)]
        plain = [token for token, _, _ in plain_stream(shards[name], 3, 20)]
        expected = [plain[place * LENGTH : (place + 1) * LENGTH] for place in shuffled_rows(shards[name], 3, len(mine))]
        assert mine.tolist() == expected


def test_the_fingerprint_follows_tokens_mixture_seed_and_length(tmp_path: Path) -> None:
    shards = {name: make_shards(tmp_path, name, 20, seed) for seed, name in enumerate("ab")}
    prints = {token_rows(shards, 100).fingerprint, token_rows(shards, 100).fingerprint, token_rows(shards, 100, seed=4).fingerprint}
    prints.add(token_rows({"a": shards["a"]}, 100).fingerprint)
    prints.add(token_rows({**shards, "a": make_shards(tmp_path / "other", "a", 20, 9)}, 100).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("count", [1, 3, 40])
def test_validation_rows_hold_each_document_once_in_order_and_pad_the_end(tmp_path: Path, count: int) -> None:
    shards = make_shards(tmp_path, count=count, longest=60)
    rows = DocumentRows(shards, sequence_length=LENGTH)
    parts = [rows.rows(start, min(2, rows.num_rows - start)) for start in range(0, rows.num_rows, 2)]
    inputs = np.concatenate([part.input_ids.reshape(-1) for part in parts])
    mask = np.concatenate([part.loss_mask.reshape(-1) for part in parts])
    labels = np.concatenate([part.labels.reshape(-1) for part in parts])
    documents = np.concatenate([part.document_ids.reshape(-1) for part in parts])
    assert (documents >= 0).sum() == shards.num_tokens == rows.num_tokens
    assert (inputs[: shards.num_tokens] == shards.tokens).all()
    # All but the first token of each document is predicted, once.
    assert labels[mask].tolist() == np.delete(np.array(shards.tokens), shards.starts).tolist()
    assert rows.num_bytes == shards.num_bytes


def test_validation_can_be_limited_to_whole_documents_and_their_bytes(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, count=20)
    rows = DocumentRows(shards, sequence_length=LENGTH, max_tokens=int(shards.ends[6]) + 1)
    assert rows.num_documents == 7
    assert rows.num_bytes == shards.text_bytes[:7].sum()
    assert DocumentRows(shards, sequence_length=LENGTH, max_tokens=1).num_documents == 1


@given(lengths=st.lists(st.integers(1, 32), max_size=60))
def test_best_fit_places_every_item_once_and_overfills_no_row(lengths: list[int]) -> None:
    rows = pack_best_fit(np.array(lengths, np.int64), 32)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in row) <= 32 for row in rows)
    # First-fit and best-fit decreasing stay within 11/9 of the best possible, plus one.
    assert len(rows) <= 11 / 9 * max(1, -(-sum(lengths) // 32)) + 1 or len([one for one in lengths if one > 16]) > 0


def test_best_fit_chooses_the_fullest_row_that_still_holds() -> None:
    assert pack_best_fit(np.array([6, 5, 3, 4, 2]), 10) == [[0, 3], [1, 2, 4]]
