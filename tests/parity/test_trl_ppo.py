"""One whole iteration of PPO, from the answers to the moved weights, is TRL 1.12's; the values were made by `tests/oracles/trl_ppo.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.model.actor_critic import ActorCritic
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.train.config import AdvantageConfig, CheckpointConfig, GuardConfig, OptimizerConfig, ScheduleConfig
from herdling.train.experience import Experience, targets_of
from herdling.train.forward import scorer
from herdling.train.loop import Loop
from herdling.train.optim import Optimizer
from herdling.train.ppo_loss import PpoBatch, PpoObjective
from herdling.train.rollouts import pack_rollouts, ppo_batch
from herdling.train.schedule import plan_schedule
from herdling.types import Rollout
from tests.oracles.trl_ppo import BATCH, END, ESTIMATORS, MINI_BATCHES, SETTINGS, fill, prompts, weight_of

ORACLE = json.loads((Path(__file__).parents[1] / "oracles" / "trl_ppo.json").read_text())
ROW = 32


class Iteration:
    """The answers that TRL sampled, through our models."""

    def __init__(self, estimator: str) -> None:
        torch.set_num_threads(1)
        self.theirs: dict[str, Any] = ORACLE["results"][estimator]
        config = LlamaConfig(**ORACLE["shape"], tie_word_embeddings=False)
        self.model = ActorCritic(fill(Llama(config), "policy"), fill(RewardModel(config), "critic"))
        self.reference, self.judge = fill(Llama(config), "reference"), fill(RewardModel(config), "judge")
        self.config = AdvantageConfig(formulas="trl", kl_estimator=estimator, no_end_penalty=SETTINGS["missing_eos_penalty"])  # type: ignore[arg-type]
        self.rollouts = [self._rollout(*pair) for pair in zip(self.theirs["prompts"], self.theirs["answers"], strict=True)]

    @torch.no_grad()
    def _rollout(self, prompt: list[int], answer: list[int]) -> Rollout:
        reward = self.judge(torch.tensor([[*prompt, *answer]]))[0, -1].item()
        return Rollout(prompt_ids=tuple(prompt), response_ids=tuple(answer), logprobs=(), text="", ended=answer[-1] == END, reward=reward)

    @torch.no_grad()
    def experience(self) -> Experience:
        packed, width = pack_rollouts(self.rollouts, ROW, 0), max(len(one.response_ids) for one in self.rollouts)
        scores, reference = scorer(self.model)(packed.batch), scorer(self.reference)(packed.batch)
        assert scores.values is not None
        return Experience(
            rollouts=self.rollouts,
            logprobs=packed.gather(scores.logprobs, width),
            reference=packed.gather(reference.logprobs, width),
            values=packed.gather(scores.values, width + 1, behind=1),
        )

    def mini_batches(self) -> list[PpoBatch]:
        made = self.experience()
        targets, batches = targets_of(made, SETTINGS["kl_coef"], self.config), []
        for chosen in torch.tensor(self.theirs["order"]).split(BATCH // MINI_BATCHES):
            packed = pack_rollouts([self.rollouts[number] for number in chosen.tolist()], ROW, 0)
            batches.append(ppo_batch(packed, made, targets, chosen, untouched=not batches))
        return batches


@pytest.fixture(scope="module", params=ESTIMATORS)
def iteration(request: pytest.FixtureRequest) -> Iteration:
    return Iteration(request.param)


def test_the_inputs_are_those_that_the_values_were_made_with(iteration: Iteration) -> None:
    assert ORACLE["versions"]["trl"] == "1.12.0"
    assert ORACLE["settings"] == SETTINGS
    assert sorted(iteration.theirs["prompts"]) == sorted(prompts())
    lengths = {len(answer) for answer in iteration.theirs["answers"]}
    assert max(lengths) == SETTINGS["response_length"] > min(lengths)
    assert {answer[-1] == END for answer in iteration.theirs["answers"]} == {True, False}


def test_log_probabilities_values_and_scores_are_those_of_trl(iteration: Iteration) -> None:
    ours, theirs = iteration.experience(), iteration.theirs
    for row, answer in enumerate(theirs["answers"]):
        length = len(answer)
        for found, wanted in ((ours.logprobs, "logprobs"), (ours.reference, "ref_logprobs"), (ours.values, "values")):
            assert found[row, :length].tolist() == pytest.approx(theirs[wanted][row][:length], abs=1e-5)
        penalty = 0.0 if answer[-1] == END else SETTINGS["missing_eos_penalty"]
        assert iteration.rollouts[row].reward - penalty == pytest.approx(theirs["scores"][row], abs=1e-5)


def test_advantages_and_returns_are_those_of_trl(iteration: Iteration) -> None:
    made, theirs = iteration.experience(), iteration.theirs
    targets = targets_of(made, SETTINGS["kl_coef"], iteration.config)
    width = made.logprobs.shape[1]
    assert targets.advantages[:, :width].flatten().tolist() == pytest.approx(torch.tensor(theirs["advantages"]).flatten().tolist(), abs=1e-5)
    assert targets.returns[:, :width].flatten().tolist() == pytest.approx(torch.tensor(theirs["returns"]).flatten().tolist(), abs=1e-5)


class Dealt:
    """The mini-batches of one iteration as a feed."""

    fingerprint = "trl"

    def __init__(self, batches: list[PpoBatch]) -> None:
        self.dealt = batches

    def batches(self, step: int) -> Iterator[PpoBatch]:
        yield from self.dealt[step:]


def test_losses_of_every_step_and_the_weights_after_them_are_those_of_trl(iteration: Iteration, tmp_path: Path) -> None:
    schedule = plan_schedule(ScheduleConfig(warmup="0%", decay="constant"), num_tokens=MINI_BATCHES * 128, batch="128", sequence_length=ROW, where="test")
    optimizer = OptimizerConfig(betas=(SETTINGS["adam_beta1"], SETTINGS["adam_beta2"]), eps=SETTINGS["adam_epsilon"], clip_norm=1e9)
    Loop(
        score=scorer(iteration.model),
        objective=PpoObjective(clip=SETTINGS["cliprange"], value_clip=SETTINGS["cliprange_value"], value_coef=SETTINGS["vf_coef"]),
        feed=Dealt(iteration.mini_batches()),
        schedule=schedule,
        optimizer=Optimizer(iteration.model, optimizer),
        lr=SETTINGS["learning_rate"],
        folder=tmp_path,
        guard=GuardConfig(sigmas=0),
        checkpoint=CheckpointConfig(every_seconds=1e9),
    ).run()
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [step["policy_loss"] for step in steps] == pytest.approx(iteration.theirs["policy_losses"], abs=1e-5)
    assert [step["value_loss"] for step in steps] == pytest.approx(iteration.theirs["value_losses"], abs=1e-5)
    assert any(step["clip_fraction"] > 0 for step in steps)
    for name, (norm, along) in iteration.theirs["changes"].items():
        weight = dict(iteration.model.named_parameters())[name]
        model, plain = name.split(".", 1)
        moved = weight.detach() - torch.from_numpy(weight_of(model, plain, tuple(weight.shape)))
        assert moved.norm().item() == pytest.approx(norm, rel=1e-3)
        assert (moved * torch.from_numpy(weight_of("probe", plain, tuple(weight.shape)))).sum().item() == pytest.approx(along, rel=1e-3, abs=1e-4)
