"""Answers to learn from: drawn from the policy as it is now, judged where they can be, never given an end that they have not."""

from __future__ import annotations

import pytest
import torch

from herdling.base.errors import DataError
from herdling.generate.gated_reward import RewardModels
from herdling.generate.loaded import LoadedModel
from herdling.generate.rollouts import Sampler
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.train.forward import scorer
from herdling.train.rollouts import pack_rollouts
from herdling.types import Dialog
from tests.data.toy_comparisons import question, toy_format
from tests.stages.toy_training import MODEL

CONFIG = LlamaConfig(**{**MODEL, "max_position_embeddings": 96})


def chat_model(seed: int = 0, *, ends: float = 30.0) -> LoadedModel:
    """A chat model of random weights that ends its turns often: the direction of the end's output is scaled up."""
    chat, llama = toy_format(), Llama(CONFIG)
    llama.init_weights(seed)
    with torch.no_grad():
        llama.output_weight[chat.end_of_turn_id] *= ends
    return LoadedModel(llama, chat.tokenizer, chat, name="policy")


def sampler(policy: LoadedModel, max_tokens: int = 12) -> Sampler:
    chat = toy_format()
    body = Llama(CONFIG)
    body.init_weights(7)
    judge = LoadedModel(RewardModel.from_llama(body, 1), chat.tokenizer, chat, name="judge")
    return Sampler(policy, RewardModels(judge), max_tokens=max_tokens)


def prompts(count: int) -> list[Dialog]:
    return [question(f"the item {number}") for number in range(count)]


def test_an_answer_ends_with_the_token_that_the_policy_chose_or_was_cut() -> None:
    policy = chat_model()
    made = sampler(policy).sample(prompts(48), range(48))
    stops = set(policy.engine.stop_ids)
    assert {one.ended for one in made} == {True, False}
    for one in made:
        assert one.ended == (one.response_ids[-1] in stops)
        assert one.ended or len(one.response_ids) == 12
        assert not stops & set(one.response_ids[:-1])
        assert len(one.logprobs) == len(one.response_ids)


def test_log_probabilities_are_those_of_the_trainers_forward() -> None:
    policy = chat_model()
    made = sampler(policy).sample(prompts(16), range(16))
    packed = pack_rollouts(made, 64, policy.tokenizer.pad_id)
    with torch.no_grad():
        found = packed.gather(scorer(policy.model)(packed.batch).logprobs, 12)
    for one, row in zip(made, found.tolist(), strict=True):
        assert row[: len(one.logprobs)] == pytest.approx(one.logprobs, abs=1e-4)


def test_answers_follow_the_weights_as_they_move_and_nothing_but_weights_and_seeds() -> None:
    policy = chat_model()
    asking = sampler(policy)
    first = asking.sample(prompts(8), range(8))
    assert asking.sample(prompts(8), range(8)) == first
    assert [asking.sample([prompt], [seed])[0].response_ids for seed, prompt in enumerate(prompts(8))] == [one.response_ids for one in first]
    with torch.no_grad():
        policy.model.output_weight.mul_(5)
    assert asking.sample(prompts(8), range(8)) != first


def test_an_empty_answer_is_not_judged_and_every_other_is() -> None:
    made = sampler(chat_model(ends=60.0)).sample(prompts(64), range(64))
    empty = [one for one in made if not one.text]
    assert empty
    assert all(one.reward is None for one in empty)
    assert all(one.reward == one.helpfulness for one in made if one.text)
    assert all(isinstance(one.reward, float) for one in made if one.text)


def test_a_reward_that_is_not_a_number_is_an_error_naming_the_dialog() -> None:
    asking = sampler(chat_model(ends=1.0))
    with torch.no_grad():
        asking.rewards.helpfulness.reward_model.score.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="the item 0 with nan"):
        asking.sample(prompts(1), [0])
