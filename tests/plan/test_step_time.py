"""The law of step times: what is counted, and that a law which a machine obeys is found from a few shapes and holds for others."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.model.config import LlamaConfig
from herdling.model.dial import dial_configs
from herdling.plan.step_time import KINDS, StepLaw, StepShape, TimedStep, fit_step_law, work_of_step

TINY = LlamaConfig(
    vocab_size=10, hidden_size=4, intermediate_size=6, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=2, tie_word_embeddings=True
)


def shapes(*numbers: int, tokens: int = 2048, **others: float) -> list[StepShape]:
    dial = dial_configs(vocab_size=4096)
    return [StepShape(model=dial[number], tokens=tokens, sequence_length=256, **others) for number in numbers]  # type: ignore[arg-type]


def test_the_work_of_a_step_is_counted_as_by_hand() -> None:
    work = dict(zip(KINDS, work_of_step(StepShape(model=TINY, tokens=32, sequence_length=8, micro_batch_tokens=16, supervised=0.5)), strict=True))
    block = 4 * 2 * 2 * (2 + 1) + 3 * 4 * 6  # queries and output, key and value; three of SwiGLU
    attention = 3 * 4 * 3 * 2 * 2 * 9 / 2  # 3 for forward and backward; 4 FLOPs a key, query and channel; 3 layers of 2 heads of 2; 4.5 keys on average
    assert work == {
        "step": 1,
        "layer": 2 * 3,
        "product": 32 * (6 * (3 * block + 10 * 4) + attention - 6 * 40 * 0.5),
        "element": 32 * 3 * (6 * 4 + 4 * 4 + 4 * 6),
        "logit": 32 * 0.5 * 10,
        "score": 32 * 3 * 2 * 4.5,
        "weight": TINY.num_parameters(),
    }


def test_a_law_is_found_from_a_few_shapes_and_holds_for_others() -> None:
    truth = StepLaw(step=4e-3, layer=1e-3, product=3e-12, element=1e-9, logit=5e-9, score=8e-9, weight=3e-9)
    measured = [*shapes(0, 2, 4, 6), *shapes(2, tokens=8192), *shapes(3, supervised=0.2)]
    found = fit_step_law([TimedStep(shape=shape, seconds=truth.seconds(shape)) for shape in measured])
    for shape in [*shapes(1, 3, 5, 7), *shapes(4, tokens=8192, supervised=0.3)]:
        assert found.seconds(shape) == pytest.approx(truth.seconds(shape), rel=0.05)


def test_one_timed_step_tells_how_fast_a_machine_is_and_nothing_else() -> None:
    one = shapes(2)[0]
    found = fit_step_law([TimedStep(shape=one, seconds=7 * StepLaw().seconds(one))])
    for shape in shapes(0, 4, 8):
        assert found.seconds(shape) == pytest.approx(7 * StepLaw().seconds(shape), rel=1e-6)
    assert found.spread == StepLaw().spread


def test_the_interval_grows_with_what_the_law_cannot_explain() -> None:
    chance = np.random.default_rng(0)
    measured = shapes(0, 1, 2, 3, 4, 5, 6, 7)
    quiet, noisy = (
        fit_step_law([TimedStep(shape=shape, seconds=StepLaw().seconds(shape) * float(np.exp(sigma * chance.normal()))) for shape in measured]).spread
        for sigma in (0.005, 0.15)
    )
    assert quiet == 0.05
    assert 0.15 < noisy < 0.8


@pytest.mark.parametrize(("seconds", "answer"), [(0.0, "a step took 0.0 seconds"), (float("nan"), "a step took nan"), (None, "no timed step")])
def test_what_is_no_measurement_is_refused(seconds: float | None, answer: str) -> None:
    timed = [] if seconds is None else [TimedStep(shape=shapes(0)[0], seconds=seconds)]
    with pytest.raises(DataError, match=answer):
        fit_step_law(timed)
