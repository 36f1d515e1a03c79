"""How a batch is cut into micro-batches, or dealt to ranks, cannot change the step."""

import json

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from herdling.train.config import OptimizerConfig
from herdling.train.feed import ScheduledFeed
from herdling.train.optim import Optimizer
from tests.train.tiny import NoiseRows, TinyModel, tiny_loop, tiny_schedule


def trained(folder, **changes):
    """Train four steps of eight rows, of which very different shares are supervised. Returns (all weights, losses, gradient norms)."""
    model = TinyModel()
    tiny_loop(folder, num_steps=4, model=model, **changes).run()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    return weights, [line["loss"] for line in lines], [line["grad_norm"] for line in lines]


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_one_batch_of_eight_rows_equals_micro_batches(tmp_path, rows):
    whole, losses, norms = trained(tmp_path / "whole")
    cut, cut_losses, cut_norms = trained(tmp_path / "cut", micro_batch_tokens=rows * 16)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-6)
    assert cut_losses == pytest.approx(losses, abs=1e-6)
    assert cut_norms == pytest.approx(norms, abs=1e-6)


def test_the_gradient_of_eight_micro_batches_is_the_gradient_of_one(tmp_path):
    gradients = []
    for tokens in (8 * 16, 16):
        model = TinyModel()
        optimizer = Optimizer(model, OptimizerConfig())
        loop = tiny_loop(tmp_path / str(tokens), num_steps=1, model=model, optimizer=optimizer, micro_batch_tokens=tokens)
        optimizer.step = lambda lr, norm, skip, optimizer=optimizer: gradients.append(torch.cat([g.flatten() for g in optimizer.gradients]))
        loop.run()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6)


class GlooRanks:
    """Two processes that add up over gloo."""

    size = 2

    def add_up(self, tensors):
        for tensor in tensors:
            dist.all_reduce(tensor)


def _rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    schedule = tiny_schedule(4)
    feed = ScheduledFeed(schedule, lambda length: NoiseRows(sequence_length=length), rank=rank, world_size=2)
    weights, losses, _ = trained(folder / str(rank), schedule=schedule, feed=feed, ranks=GlooRanks(), micro_batch_tokens=2 * 16)
    torch.save((weights, losses), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path):
    one, losses, _ = trained(tmp_path / "one")
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    mp.spawn(_rank, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        weights, rank_losses = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(weights, one, rtol=0, atol=1e-6)
        assert rank_losses == pytest.approx(losses, abs=1e-6)
