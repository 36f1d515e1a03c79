"""From scores to targets: where the score stands, what an answer without an end is worth, and both sets of formulas, by hand."""

from __future__ import annotations

import pytest
import torch

from herdling.base.errors import TrainingError
from herdling.train.config import AdvantageConfig
from herdling.train.experience import Experience, facts_of, means_of, scores_of, targets_of
from herdling.types import Rollout


def rollout(length: int, reward: float | None = 0.0, *, ended: bool = True) -> Rollout:
    return Rollout(prompt_ids=(1, 2), response_ids=(5,) * length, logprobs=(-0.5,) * length, text="x", ended=ended, reward=reward)


def experience() -> Experience:
    """Two answers of two tokens and of one, whitened rewards 1 and -1, no KL."""
    logprobs = torch.tensor([[-0.5, -0.5], [-0.5, 0.0]])
    values = torch.tensor([[0.5, 0.25, 0.75], [0.5, 0.125, 9.0]])
    return Experience(rollouts=[rollout(2, 3.0), rollout(1, 1.0)], logprobs=logprobs, reference=logprobs, values=values)


def test_rewards_are_whitened_over_the_batch_and_an_answer_without_end_pays() -> None:
    batch = [rollout(1, 3.0), rollout(1, 1.0, ended=False)]
    assert scores_of(batch, AdvantageConfig(no_end_penalty=0.5)).tolist() == pytest.approx([1.0, -1.5])
    assert scores_of(batch, AdvantageConfig(formulas="trl", no_end_penalty=0.5)).tolist() == pytest.approx([3.0, 0.5])


def test_an_answer_that_nobody_can_judge_is_the_worst_of_its_batch_and_pays_too() -> None:
    batch = [rollout(1, 3.0), rollout(1, 1.0), rollout(1, None)]
    assert scores_of(batch, AdvantageConfig(formulas="trl", no_end_penalty=1.0)).tolist() == [3.0, 1.0, 0.0]
    with pytest.raises(TrainingError, match="none of 2 sampled answers can be judged"):
        scores_of([rollout(1, None), rollout(2, None)], AdvantageConfig())


def test_in_the_textbook_the_score_stands_at_the_last_token() -> None:
    found = targets_of(experience(), 0.0, AdvantageConfig(gamma=1.0, lam=1.0))
    # Returns with lambda 1 are what comes after: 1 twice, and -1; the value behind the end plays no part.
    assert found.returns.tolist() == [[1.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    assert found.value_mask.tolist() == [[True, True, False], [True, False, False]]
    raw = torch.tensor([0.5, 0.75, -1.5])
    wanted = (raw - raw.mean()) / raw.std(correction=0)
    assert torch.cat((found.advantages[0, :2], found.advantages[1, :1])).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    assert found.advantages[:, 2].tolist() == [0, 0]


def test_in_trls_formulas_the_score_stands_one_step_behind_the_end_where_there_is_room() -> None:
    found = targets_of(experience(), 0.0, AdvantageConfig(formulas="trl", gamma=1.0, lam=0.0, no_end_penalty=0.0))
    # The longer answer fills the batch's width, so its score stays at its last token; the shorter one has a second value, 0.125, and its score behind it.
    assert found.value_mask.tolist() == [[True, True, False], [True, True, False]]
    advantages = [[0.25 - 0.5, 3.0 - 0.25], [0.125 - 0.5, 1.0 - 0.125]]
    assert found.returns[:, :2].tolist() == [[0.25, 3.0], [0.125, 1.0]]
    raw = torch.tensor([advantages[0][0], advantages[0][1], advantages[1][0]])  # the step behind the end is no token
    wanted = (raw - raw.mean()) / raw.std(correction=1)
    assert torch.cat((found.advantages[0, :2], found.advantages[1, :1])).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_each_token_pays_for_its_kl() -> None:
    made = experience()
    away = Experience(rollouts=made.rollouts, logprobs=made.logprobs, reference=made.reference - made.mask * 0.5, values=torch.zeros(2, 3))
    found = targets_of(away, 0.1, AdvantageConfig(lam=1.0))
    assert found.returns.flatten().tolist() == pytest.approx([0.9, 0.95, 0, -1.05, 0, 0])


def test_facts_are_means_over_answers_and_over_tokens() -> None:
    made = experience()
    facts = facts_of(made, targets_of(made, 0.01, AdvantageConfig()), 0.01)
    assert (facts["reward"], facts["length"], facts["kl"], facts["beta"], facts["without_end"]) == (2.0, 1.5, 0.0, 0.01, 0)
    assert facts["drift"] == facts["drift_max"] == 0
    assert facts["entropy"] == pytest.approx(0.5)
    assert facts["advantage_mean"] == pytest.approx(0, abs=1e-6)
    counted = means_of([rollout(1, None, ended=False), rollout(3, 2.0)])
    assert (counted["reward"], counted["length"], counted["without_end"], counted["not_judged"], counted["safety"]) == (2.0, 2.0, 1, 1, None)
