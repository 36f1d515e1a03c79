"""Our DPO loss is TRL's `DPOTrainer.compute_loss` on the same models and batch; the values were made by `tests/oracles/trl_dpo.py`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from herdling.data.preference_rows import PreferredResponses, head_each, preference_batch
from herdling.data.shared_rows import split_prompt
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.train.dpo_loss import PreferenceLoss
from herdling.train.forward import scorer
from herdling.train.frozen_reference import score_responses
from herdling.train.loop import micro_batches
from tests.oracles.trl_dpo import LOSSES, reference_weight_of, rows
from tests.oracles.trl_reward import weight_of

ORACLE = json.loads((Path(__file__).parents[1] / "oracles" / "trl_dpo.json").read_text())


def model_of(weights):
    model = Llama(LlamaConfig(**ORACLE["shape"], tie_word_embeddings=False))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(weights(name, tuple(weight.shape))))
    return model


def comparisons_of_the_oracle():
    """The pairs with every token of a response in the loss, as TRL has it."""
    found = []
    for row in ORACLE["rows"]:
        responses = [row["chosen_ids"], row["rejected_ids"]]
        shared = head_each(split_prompt([row["prompt_ids"] + ids for ids in responses], len(row["prompt_ids"])))
        every = tuple(np.ones(len(ids), bool) for ids in responses)
        found.append(PreferredResponses(shared=shared, ranks=(1, 2), scored=every, told=every, reference=(0.0, 0.0)))
    return found


def test_the_inputs_are_those_that_the_values_were_made_with():
    assert ORACLE["rows"] == rows()
    assert ORACLE["versions"]["trl"] == "1.16.0"
    assert {name: {key: found[key] for key in LOSSES[name]} for name, found in ORACLE["results"].items()} == LOSSES


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("length", [34, 64])
def test_loss_metrics_and_gradients_are_those_of_trl(name, length):
    theirs, policy, comparisons = ORACLE["results"][name], model_of(weight_of), comparisons_of_the_oracle()
    asked = score_responses(comparisons, scorer(model_of(reference_weight_of)), device=torch.device("cpu"), micro_batch_tokens=64)
    torch.testing.assert_close(torch.tensor(asked), torch.tensor(theirs["reference_logprobs"]), rtol=0, atol=2e-5)  # sums of up to 72 nats
    comparisons = [replace(one, reference=tuple(logprobs)) for one, logprobs in zip(comparisons, asked, strict=True)]
    objective = PreferenceLoss(beta=theirs["beta"], nll=theirs["loss_weights"][1] if "sft" in theirs["loss_type"] else 0.0)
    batch = preference_batch(comparisons, length, pad_id=0, nll_norm="batch")
    count, total, sums = objective.count(batch), 0.0, {}
    for part in micro_batches(batch, 2 * length):
        loss, metrics = objective.loss(scorer(policy)(part), part)
        (loss / count).backward()
        total += loss.item() / count
        sums = {key: sums.get(key, 0.0) + value.item() / count for key, value in metrics.items()}
    assert count == 5
    assert total == pytest.approx(theirs["loss"], abs=1e-6)
    metrics, beta = theirs["metrics"], theirs["beta"]
    assert sums["accuracy"] == pytest.approx(metrics["rewards/accuracies"])
    assert sums["margin"] == pytest.approx(metrics["rewards/margins"], abs=5e-6)
    assert beta * sums["chosen_shift"] == pytest.approx(metrics["rewards/chosen"], abs=5e-6)
    assert beta * sums["rejected_shift"] == pytest.approx(metrics["rewards/rejected"], abs=5e-6)
    assert {key: weight.grad.norm().item() for key, weight in policy.named_parameters()} == pytest.approx(theirs["gradient_norms"], rel=1e-5)
