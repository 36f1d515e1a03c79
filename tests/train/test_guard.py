import math

import pytest
import torch

from herdling.base.errors import TrainingError
from herdling.train.config import GuardConfig
from herdling.train.guard import Guard


def judged(guard, values, norm=1.0):
    return [guard.judge(torch.tensor(float(value)), torch.tensor(float(norm))).item() for value in values]


def make(**config):
    return Guard(GuardConfig(**config), torch.device("cpu"))


def noise(count, seed=0):
    return (2 + 0.1 * torch.randn(count, generator=torch.Generator().manual_seed(seed))).tolist()


def test_what_is_not_finite_is_skipped_from_the_first_step_on():
    guard = make()
    assert judged(guard, [2.0, math.nan, math.inf, 2.0]) == [0, 1, 1, 0]
    assert judged(guard, [2.0], norm=math.nan) == [1]


def test_a_leap_is_skipped_once_half_of_the_window_was_seen():
    guard = make(window=64)
    assert judged(guard, [*noise(10), 50.0]) == [0] * 11
    guard = make(window=64)
    assert judged(guard, [*noise(40), 50.0, 2.0]) == [0] * 40 + [1, 0]
    assert judged(guard, [2.0], norm=50.0) == [1]


def test_a_fall_is_no_leap():
    assert judged(make(window=64), [*noise(40), -50.0]) == [0] * 41


def test_a_lasting_change_of_level_becomes_normal():
    skipped = judged(make(window=64), noise(40) + [value + 3 for value in noise(40, seed=1)])
    assert skipped[40] == 1
    assert sum(skipped) < 10
    assert skipped[-20:] == [0] * 20


def test_without_sigmas_only_what_is_not_finite_is_skipped():
    assert judged(make(sigmas=0.0, window=8), [*noise(40), 1e9, math.nan]) == [0] * 41 + [1]


def test_patience_ends_with_what_to_do():
    guard = make(patience=3)
    judged(guard, [math.nan] * 3)
    with pytest.raises(TrainingError, match=r"step 70: the last 3 steps were skipped.*Lower optimizer.lr"):
        guard.check(guard.num_in_a_row.item(), 70)
    judged(guard, [1.0])
    guard.check(guard.num_in_a_row.item(), 71)


def test_its_memory_is_its_state():
    one, other = make(window=16), make(window=16)
    judged(one, noise(20))
    for name, tensor in other.state().items():
        tensor.copy_(one.state()[name])
    values = [*noise(5, seed=3), 9.0, 2.0]
    assert judged(one, values) == judged(other, values)
