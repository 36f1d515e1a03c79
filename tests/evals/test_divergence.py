"""KL from the reference: against the plain softmax of all logits, and against a divergence that can be summed by hand."""

from __future__ import annotations

import pytest
import torch

from herdling.base.errors import LineageError
from herdling.evals.divergence import answer_logprobs, log_ratios
from herdling.generate.loaded import LoadedModel
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Sampling
from tests.data.toy_comparisons import toy_format
from tests.stages.toy_training import MODEL


def model(seed: int, chat: str | None = None) -> LoadedModel:
    llama = Llama(LlamaConfig(**MODEL))
    llama.init_weights(seed)
    form = toy_format()
    with torch.no_grad():  # sharper than at the beginning, so that policies differ
        llama.model.embed_tokens.weight.mul_(20.0)
    return LoadedModel(llama, form.tokenizer, form if chat is None else chat_format(form.tokenizer, chat), name=f"model {seed}")  # type: ignore[arg-type]


PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9], [10], [11, 12]]
ANSWERS = [[13, 14], [15], [16, 17, 18, 19], [20, 21, 22]]


def test_log_probabilities_are_those_of_the_plain_softmax_over_the_answers_tokens() -> None:
    one = model(1)
    expected = []
    for prompt, said in zip(PROMPTS, ANSWERS, strict=True):
        logprobs = torch.log_softmax(one.logits([*prompt, *said]).double(), dim=-1)
        expected.append(sum(float(logprobs[len(prompt) - 1 + place, token]) for place, token in enumerate(said)))
    assert answer_logprobs(one, PROMPTS, ANSWERS) == pytest.approx(expected, abs=1e-4)


def test_a_policy_is_at_distance_zero_from_itself_whatever_it_said() -> None:
    one = model(1)
    assert log_ratios(one, one, PROMPTS, ANSWERS) == [0.0] * len(PROMPTS)


def test_the_mean_over_samples_is_the_divergence() -> None:
    # Answers of one token: the KL divergence is a sum over the vocabulary.
    policy, reference = model(1), model(2)
    prompt = [1, 2, 3]
    p, q = (torch.log_softmax(one.logits(prompt)[-1].double(), dim=-1) for one in (policy, reference))
    expected = float((p.exp() * (p - q)).sum())
    samplings = [Sampling(temperature=1.0, top_p=1.0, max_tokens=1, seed=seed) for seed in range(600)]
    said = [answer.token_ids for answer in policy.answer([prompt] * len(samplings), samplings)]
    ratios = torch.tensor(log_ratios(policy, reference, [prompt] * len(said), said))
    assert expected > 0.05
    assert abs(float(ratios.mean()) - expected) < 4 * float(ratios.std()) / len(said) ** 0.5


def test_models_that_write_otherwise_are_refused() -> None:
    with pytest.raises(LineageError, match="has the chat template"):
        log_ratios(model(1), model(2, "llama3.1"), PROMPTS, ANSWERS)
