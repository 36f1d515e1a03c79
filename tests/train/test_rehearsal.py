"""Real steps of small models, timed: they leave the process as it was, and a law comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from herdling.model.precision import Device
from herdling.plan.step_time import StepLaw
from herdling.train.rehearsal import GLANCE, SHORT, WHOLE, _random_batches, glance, measure_law, small_llama, time_steps

CPU = Device(device=torch.device("cpu"), dtype=torch.float32, threads=1, matmul_precision="highest")
TINY = (small_llama(64, 1, vocab=64, tokens=64, length=32), small_llama(64, 2, vocab=64, tokens=64, length=32, micro=32))


class Ticks:
    """A clock whose every look is a second later."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_step_is_timed_from_one_look_at_the_clock_to_the_next() -> None:
    rounds: list[int] = []
    timed = time_steps(CPU, TINY, rounds=3, clock=Ticks(), tell=rounds.append)
    assert [one.seconds for one in timed] == [1.0, 1.0]
    assert [one.shape for one in timed] == list(TINY)
    assert rounds == [1, 2, 3]


def test_the_steps_have_a_loss_where_they_are_to_have_one() -> None:
    shape = replace(TINY[1], supervised=0.25)
    batch = next(_random_batches(shape, 3))
    assert batch.input_ids.shape == (3, 32)
    assert batch.loss_mask.float().mean() == 0.25


def test_random_numbers_go_on_as_if_nothing_had_been_timed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.manual_seed(7)
    time_steps(CPU, TINY, rounds=1)
    assert torch.equal(torch.rand(5), expected)


def test_a_law_comes_out_of_real_steps_that_gives_their_times_back() -> None:
    timed = time_steps(CPU, TINY, rounds=3)
    law = measure_law(CPU, TINY, rounds=3)
    assert all(one.seconds > 0 for one in timed)
    assert all(constant > 0 for constant in law.constants)
    assert all(law.seconds(one.shape) == pytest.approx(one.seconds, rel=3) for one in timed)  # of the same order: other work may run here


def test_a_glance_says_how_fast_and_that_it_is_not_sure() -> None:
    law = glance(CPU)
    assert law.spread > 0.2
    assert law.seconds(GLANCE[0]) > 0
    assert isinstance(law, StepLaw)


def test_what_is_timed_spans_the_dial() -> None:
    for shapes in (WHOLE, SHORT):
        assert max(shape.model.hidden_size for shape in shapes) >= 7 * min(shape.model.hidden_size for shape in shapes)
        assert len({shape.num_micro_batches for shape in shapes}) > 1
    assert len({shape.sequence_length for shape in WHOLE}) > 1
    assert len({shape.model.vocab_size for shape in WHOLE}) > 1
