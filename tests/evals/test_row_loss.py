"""Held-out rows: always the same, in the proportions of training, and a difference surer than a level."""

import numpy as np
import pytest
import torch

from herdling.data.token_shards import open_shards
from herdling.evals.row_loss import RowLosses, held_out_rows, row_losses
from herdling.types import Scores
from tests.stages.toy_training import make_inputs


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    from herdling.tokenizer import load_tokenizer

    folder = make_inputs(tmp_path_factory.mktemp("rows") / "inputs")
    return open_shards(folder / "tokens", "validation", tokenizer=load_tokenizer(folder / "tokenizer").fingerprint)


def rows_of(shards, **weights):
    return held_out_rows(shards, weights or {"code": 1.0, "books": 1.0}, max_tokens=512, sequence_length=16, seed=3, where="x")


def test_the_same_rows_each_time_as_many_as_asked_for(shards):
    assert rows_of(shards).num_rows == 32
    assert rows_of(shards).fingerprint == rows_of(shards).fingerprint
    assert torch.equal(rows_of(shards).rows(0, 8).input_ids, rows_of(shards).rows(0, 8).input_ids)
    assert rows_of(shards, code=1.0).fingerprint != rows_of(shards).fingerprint


def test_fewer_where_there_is_less_text(shards):
    everything = held_out_rows(shards, {"code": 1.0}, max_tokens=10**9, sequence_length=16, seed=3, where="x")
    assert everything.num_rows == shards["code"].num_tokens // 16


def test_the_mean_is_over_predicted_tokens(shards):
    rows = rows_of(shards)

    def half(batch):
        return Scores(logprobs=torch.where(batch.loss_mask, -0.5, 0.0))

    found = row_losses(half, rows, torch.device("cpu"))
    assert found.mean == pytest.approx(0.5)
    assert found.error() == pytest.approx(0.0, abs=1e-9)
    assert found.num_tokens.sum() == int(rows.rows(0, rows.num_rows).loss_mask.sum())


def test_two_models_on_the_same_rows_differ_more_surely_than_either_is_known():
    generator = np.random.default_rng(0)
    counts = np.full(100, 10)
    hardness = generator.normal(30, 5, 100)
    one, other = RowLosses(hardness, counts), RowLosses(hardness + 1 + generator.normal(0, 0.1, 100), counts)
    # By hand: the deviation of a row over 10 tokens, over the root of 100 rows.
    assert one.error() == pytest.approx(5 / 10 / 10, rel=0.2)
    assert one.error(other) == pytest.approx(0.1 / 10 / 10, rel=0.2)
