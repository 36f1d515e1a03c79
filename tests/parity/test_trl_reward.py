"""Our reward loss is TRL's `RewardTrainer.compute_loss` on the same model and batch; the values were made by `tests/oracles/trl_reward.py`."""

import json
from pathlib import Path

import pytest
import torch

from herdling.data.comparison_rows import RankedResponses, reward_batch
from herdling.data.shared_rows import split_prompt
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.train.forward import scorer
from herdling.train.preference_losses import PairwiseReward
from herdling.types import Scores
from tests.oracles.trl_reward import pairs, weight_of

ORACLE = json.loads((Path(__file__).parents[1] / "oracles" / "trl_reward.json").read_text())


def model_of_the_oracle():
    model = RewardModel(LlamaConfig(**ORACLE["shape"], tie_word_embeddings=False))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(weight_of(name, tuple(weight.shape))))
    return model


def batch_of_the_oracle(margins, length=64):
    comparisons = [
        RankedResponses(
            shared=split_prompt([pair["chosen_ids"], pair["rejected_ids"]], len(pair["prompt"])),
            ranks=(1, 2),
            margin=pair["margin"] if margins else 0.0,
            safe=(-1, -1),
        )
        for pair in ORACLE["pairs"]
    ]
    return reward_batch(comparisons, length, pad_id=0)


def test_the_inputs_are_those_that_the_values_were_made_with():
    assert ORACLE["pairs"] == pairs()
    assert ORACLE["versions"]["trl"] == "1.16.0"


@pytest.mark.parametrize("name", ["margin", "no_margin"])
def test_loss_scores_and_gradients_of_the_model_are_those_of_trl(name):
    model, batch, objective, theirs = model_of_the_oracle(), batch_of_the_oracle(name == "margin"), PairwiseReward(), ORACLE["results"][name]
    scores = scorer(model)(batch)
    loss, metrics = objective.loss(scores, batch)
    count = objective.count(batch)
    (loss / count).backward()
    assert count == len(theirs["scores"])
    assert (loss / count).item() == pytest.approx(theirs["loss"], abs=1e-6)
    assert metrics["accuracy"].item() / count == pytest.approx(theirs["accuracy"])
    assert metrics["margin"].item() / count == pytest.approx(theirs["mean_margin"], abs=2e-6)
    ours = sorted(scores.values[batch.ranks > 0].tolist())
    assert ours == pytest.approx(sorted(score for pair in theirs["scores"] for score in pair), abs=2e-6)
    assert model.score.weight.grad[0].tolist() == pytest.approx(theirs["gradient_of_score"], abs=1e-6)
    assert {key: weight.grad.norm().item() for key, weight in model.named_parameters()} == pytest.approx(theirs["gradient_norms"], rel=1e-5)


@pytest.mark.parametrize("name", ["margin", "no_margin"])
def test_the_loss_of_given_scores_is_that_of_trl(name):
    theirs, batch = ORACLE["results"][name], batch_of_the_oracle(name == "margin", length=30)
    values = torch.zeros(batch.ranks.shape)
    for pair, scores in zip(ORACLE["pairs"], theirs["scores"], strict=True):
        for rank, ids in enumerate((pair["chosen_ids"], pair["rejected_ids"]), start=1):
            own = torch.tensor(ids[len(pair["prompt"]) :])
            places = [
                (row, end)
                for row, end in (batch.ranks == rank).nonzero().tolist()
                if torch.equal(batch.input_ids[row, end + 1 - len(own) : end + 1], own) and batch.position_ids[row, end] == len(ids) - 1
            ]
            assert len(places) == 1
            values[places[0]] = scores[rank - 1]
    loss, _ = PairwiseReward().loss(Scores(logprobs=torch.zeros_like(values), values=values), batch)
    assert loss.item() / len(theirs["scores"]) == pytest.approx(theirs["loss"], abs=1e-6)
