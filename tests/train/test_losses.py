import pytest
import torch

from herdling.base.errors import CheckpointError, Stopped
from herdling.train.losses import NextToken, Stateful
from tests.train.tiny import tiny_loop


class Counting(NextToken):
    """Remembers how many tokens it has seen."""

    def __init__(self):
        self.seen = torch.zeros((), dtype=torch.int64)

    def loss(self, scores, batch):
        self.seen += batch.loss_mask.sum()
        return super().loss(scores, batch)

    def state(self):
        return {"seen": self.seen}


def test_what_an_objective_remembers_is_saved_with_the_run_and_restored_in_place(tmp_path):
    torch.set_num_threads(1)
    straight, first, second = Counting(), Counting(), Counting()
    tiny_loop(tmp_path / "straight", num_steps=10, objective=straight).run()
    with pytest.raises(Stopped):
        tiny_loop(tmp_path / "stopped", num_steps=10, objective=first, stop_requested=lambda: True).run()
    tiny_loop(tmp_path / "stopped", num_steps=10, objective=second).run()
    assert 0 < first.seen < second.seen == straight.seen


def test_a_run_does_not_go_on_with_an_objective_that_remembers_something_else(tmp_path):
    with pytest.raises(Stopped):
        tiny_loop(tmp_path, num_steps=10, objective=Counting(), stop_requested=lambda: True).run()
    with pytest.raises(CheckpointError, match=r"objective\.seen"):
        tiny_loop(tmp_path, num_steps=10).run()


def test_an_objective_that_remembers_nothing_adds_nothing_to_a_checkpoint():
    assert isinstance(Counting(), Stateful)
    assert not isinstance(NextToken(), Stateful)
