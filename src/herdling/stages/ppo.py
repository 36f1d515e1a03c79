"""The stage ppo: a chat model learns from its own answers what the reward models prefer, and is held near to where it began.

Reads a chat model, reward models and the dialogs of a data artifact, of which it takes the prompts; writes a model folder with `ledger.json`, `metrics.jsonl`
(a line a step), `curve.json` (a row an iteration, and a row a look at held-out prompts) and `samples.jsonl`. Costs memory for five models (policy, critic,
reference, two reward models) and the optimizer's state of two. Answers are sampled in this process, or by a server that is
given the weights anew in each iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream, stream_seed
from herdling.generate.generator import PolicyServerConfig
from herdling.stages.registry import DataInput, ModelInput, StageRun, stage
from herdling.stages.rewards import RewardsConfig
from herdling.stages.sft import NUM_SAMPLES, dialogs_of
from herdling.train.config import AdvantageConfig, LoopConfig, OptimizerConfig, ScheduleConfig
from herdling.types import Dialog, Sampling

if TYPE_CHECKING:
    from herdling.generate.policy_server import PolicyServer
    from herdling.model.precision import Device
    from herdling.stages.ppo_models import PpoModels
    from herdling.train.ppo_feed import PpoFeed
    from herdling.train.ppo_forward import PpoForward

TOLERANCES = {"torch.float32": (1e-4, 1e-3), "torch.bfloat16": (2e-2, 5e-2)}
"""By type of the weights: how far what must be equal may be apart (ratio from 1, KL from 0 a token), and the generator from the trainer, in nats a token."""
ROOM = 4
"""Tokens that an answer may need beyond `max_tokens` to be written as a dialog: spaces and the end of the turn."""


@stage("ppo", output="model")
class Ppo:
    """Learn from the reward by proximal policy optimization (Llama 2, section 3.2.3): each iteration samples an answer to each of 512 prompts and takes one
    step on each mini-batch of 64, clip 0.2; the reward is the whitened logit of the safety score where the prompt is tagged or that score is below 0.15,
    else of the helpfulness score, less beta times the KL to the model it began as; AdamW at a constant 1e-6, decay 0.1, clipping 1.0; 200 to 400 iterations,
    and an end where held-out prompts are answered no better. The model that comes out is that of the best held-out point.
    """

    model: ModelInput
    """The chat model to begin with: the output of sft, or of the last rejection sampling."""
    rewards: RewardsConfig
    """The reward models that judge."""
    data: DataInput
    """Where the prompts are: the turns of users in these dialogs. Those of the split `train` are learned from, those of `validation` are held out."""
    reference: ModelInput | None = None
    """The model that the policy is held near to. Unset: the model to begin with."""
    critic: Literal["reward", "policy"] = "reward"
    """What the critic's body begins as ([unspecified] in the paper): the helpfulness reward model, or the policy. Its head begins at zero, as rewards are
    whitened."""
    sampler: PolicyServerConfig | None = None
    """A server that samples. Unset: the policy answers in this process."""
    max_prompts: Annotated[int, Field(ge=1)] | None = None
    """Use so many of the training prompts, drawn by the seed. Unset: all."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """The most tokens of an answer. One that has not ended by then is trained as it is, with `no_end_penalty`, never as if it had ended."""
    beta: Annotated[float, Field(ge=0)] | None = None
    """Weight of the KL penalty. Unset: 0.01, and 0.005 from 34B on (Llama 2, section 3.2.3)."""
    kl_target: Annotated[float, Field(gt=0)] | None = None
    """Move beta after each iteration towards this KL, in nats an answer (Ziegler et al. 2019). Unset: beta is fixed, as in Llama 2."""
    kl_horizon: Annotated[int, Field(ge=1)] = 10_000
    """Answers over which an adaptive beta may grow or fall by a factor of e^0.2."""
    advantages: AdvantageConfig = AdvantageConfig()
    """From scores to advantages."""
    batch: Annotated[int, Field(ge=2)] = 512
    """Prompts, and so answers, in an iteration (Llama 2, section 3.2.3)."""
    mini_batch: Annotated[int, Field(ge=1)] = 64
    """Answers in a step; each is learned from once."""
    iterations: Annotated[int, Field(ge=1)] = 200
    """The most iterations: 200 to 400 in Llama 2, section 3.2.3."""
    clip: Annotated[float, Field(gt=0)] = 0.2
    """A ratio of new to old probability counts no further than this from 1 (Llama 2, section 3.2.3)."""
    value_clip: Annotated[float, Field(gt=0)] = 0.5
    """The same for the critic's values, from what they were ([unspecified]; OpenRLHF's and verl's value; at TRL's 0.2 a critic of whitened rewards needs five
    iterations to say 1)."""
    value_coef: Annotated[float, Field(gt=0)] = 0.1
    """Weight of the value loss ([unspecified]; TRL's value). The two share no weights: it decides what the gradient's clipping takes from each."""
    critic_lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the critic ([unspecified]). Unset: ten times the policy's, whose own would let a critic learn too late to help."""
    evaluations: Annotated[int, Field(ge=0)] = 20
    """How often held-out prompts are answered, evenly over the iterations, and at the end. 0: never; then the last weights are what comes out."""
    held_out_prompts: Annotated[int, Field(ge=1)] = 256
    """How many of them, at most."""
    patience: Annotated[int, Field(ge=0)] = 5
    """End after so many looks in a row at the held-out prompts without a new best. 0: run all iterations."""
    max_drift: Annotated[float, Field(gt=0)] | None = None
    """End with an error where the generator's log-probabilities lie further from the trainer's, in nats a token on average. Unset: 0.001 in float32, 0.05 in
    bfloat16."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of the prompts leaves no room for an answer."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW. Peak learning rate when unset: 1e-6 for a size of the papers (Llama 2, section 3.2.3), a twentieth of the dial's for a small model."""
    schedule: ScheduleConfig = ScheduleConfig(warmup="0%", decay="constant", final=1.0)
    """Constant from the first step (Llama 2, section 3.2.3)."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs. Held-out prompts take the place of its validation."""

    def __post_init__(self) -> None:
        if self.batch % self.mini_batch:
            raise SettingsError(f"mini_batch: found {self.mini_batch}, which does not divide the batch of {self.batch}; each answer is learned from once")

    def run(self, run: StageRun) -> None:
        """Load the models, gather prompts, train, save the best."""
        from herdling.checkpoint.huggingface import load_model, save_model
        from herdling.stages.ppo_models import load_models
        from herdling.train.start import settle_device

        device = settle_device(self.loop, run.folder)
        models = load_models(self, run, device)
        policy = models.policy
        run.record(tokenizer=policy.tokenizer.fingerprint, chat_template=policy.chat_format.fingerprint)

        ledger = Ledger(run.name)
        prompts = self._prompts(run, "train", models, self.max_prompts, ledger)
        ledger.check(self.max_dropped_share)
        held_out = self._held_out(run, models, ledger)

        forward = models.forward(self.loop, device)
        server = self._server(models, forward)
        feed = self._feed(run, models, forward, prompts, held_out, device, server)
        trained = self._train(run, models, feed, device)
        done = trained["steps"] // feed.steps_per_iteration
        best = self._best(feed, done)
        save_model(run.folder, policy.model if best is None else load_model(best), policy.tokenizer, policy.chat_format)

        run.summary |= {"prompts": len(prompts), "iterations": done, **trained}
        self._write(run, feed, done, ledger)
        self._write_samples(run, held_out or prompts)
        remove(run.folder / "checkpoints")
        remove(run.folder / "ppo")
        if server:
            server.forget()

    def _server(self, models: PpoModels, forward: PpoForward) -> PolicyServer | None:
        from herdling.generate.policy_server import PolicyServer

        if self.sampler is None:
            return None
        return PolicyServer(self.sampler, save=models.save, version=forward.weights, stop_ids=models.policy.engine.stop_ids)

    def _prompts(self, run: StageRun, split: str, models: PpoModels, most: int | None, ledger: Ledger) -> list[Dialog]:
        """Return at most so many prompts of a split that leave room for an answer, in an order drawn by the seed."""
        from herdling.data.prompts import prompts_of
        from herdling.tokenizer.chat_format import shape_of

        policy, context = models.policy, models.context
        found = list(prompts_of(dialogs_of(run.input(self.data), split)))
        kept: list[Dialog] = []
        shapes: set[object] = set()
        for place in stream(stream_seed(run.seed, run.name), "prompts", split).permutation(len(found)):
            if len(kept) == most:
                break
            prompt = found[place]
            ledger.read()
            if (length := policy.chat_length(prompt)) + self.max_tokens + ROOM > context:
                ledger.drop("leaves no room for an answer", f"{prompt.id}: {length:,} tokens, {self.max_tokens:,} for the answer, a context of {context:,}")
                continue
            if (shape := shape_of(prompt)) not in shapes:
                policy.chat_format.verify(prompt, generate=True)  # our ids are those of the exported template, or nothing is asked
                shapes.add(shape)
            ledger.keep()
            kept.append(prompt)
        return kept

    def _held_out(self, run: StageRun, models: PpoModels, ledger: Ledger) -> list[Dialog]:
        if not self.evaluations:
            return []
        own = Ledger("held-out prompts")
        prompts = self._prompts(run, "validation", models, self.held_out_prompts, own)
        if not prompts:
            raise DataError(f"stages.{run.name}.data: has no held-out prompts (split validation) to say when to stop. Hold some out, or set evaluations = 0")
        ledger.counts["held-out prompts"] = own.to_dict()
        return prompts

    def _feed(
        self,
        run: StageRun,
        models: PpoModels,
        forward: PpoForward,
        prompts: Sequence[Dialog],
        held_out: Sequence[Dialog],
        device: Device,
        server: PolicyServer | None,
    ) -> PpoFeed:
        """Put together what samples, judges and deals out mini-batches."""
        from herdling.generate.rollouts import Sampler
        from herdling.train.held_out import HeldOut
        from herdling.train.ppo_feed import KlControl, PpoFeed
        from herdling.train.ppo_forward import PpoChecks
        from herdling.train.size import ppo_size

        tolerance, drift = TOLERANCES[str(device.dtype)]
        seed = stream_seed(run.seed, run.name)
        sampler = Sampler(models.policy, models.rewards, max_tokens=self.max_tokens, generate=server.generate if server else None)
        beta = ppo_size(models.policy.config).beta if self.beta is None else self.beta
        every = max(1, self.iterations // max(1, self.evaluations))
        folder, patience = run.folder / "ppo", self.patience
        watch = HeldOut(prompts=held_out, sample=sampler.sample, save=models.save, folder=folder, every=every, patience=patience, seed=seed)
        return PpoFeed(
            forward=forward,
            checks=PpoChecks(max_drift=self.max_drift or drift, tolerance=tolerance, starts_at_reference=self.reference in (None, self.model)),
            sample=sampler.sample,
            prompts=prompts,
            held_out=watch if held_out else None,
            folder=run.folder,
            seed=seed,
            batch=self.batch,
            mini_batch=self.mini_batch,
            iterations=self.iterations,
            row_length=max(map(models.policy.chat_length, (*prompts, *held_out))) + self.max_tokens,
            pad_id=models.policy.tokenizer.pad_id,
            advantages=self.advantages,
            kl=KlControl(beta=beta, target=self.kl_target, horizon=self.kl_horizon),
            note=run.progress.note,
        )

    def _train(self, run: StageRun, models: PpoModels, feed: PpoFeed, device: Device) -> dict[str, Any]:
        """Take a step on every mini-batch that the feed makes."""
        from herdling.train.ppo_loss import PpoObjective
        from herdling.train.schedule import plan_schedule
        from herdling.train.size import ppo_size
        from herdling.train.start import train_llama

        lr, where = self.optimizer.lr or ppo_size(models.policy.config).lr, f"stages.{run.name}"
        # The schedule counts positions as if each answer filled a row; the learning rate is constant.
        positions, steps = self.mini_batch * feed.row_length, self.iterations * feed.steps_per_iteration
        schedule = plan_schedule(self.schedule, num_tokens=steps * positions, batch=str(positions), sequence_length=feed.row_length, where=where)
        trained = train_llama(
            models.trained,
            PpoObjective(clip=self.clip, value_clip=self.value_clip, value_coef=self.value_coef, ratio_tolerance=feed.checks.tolerance),
            feed,
            schedule=schedule,
            optimizer=self.optimizer,
            lr=lr,
            lr_shares={"critic.": (self.critic_lr or 10 * lr) / lr},
            loop=self.loop,
            device=device,
            folder=run.folder,
            may_end_early=True,
            progress=run.progress,
            stop_requested=run.stop_requested,
        )
        del trained["tokens"]  # the schedule counts full rows
        return trained

    def _best(self, feed: PpoFeed, done: int) -> Path | None:
        """Return the folder of the weights to keep after `done` iterations; None: those that the policy has now."""
        if feed.held_out is None:
            return None
        if done == self.iterations:
            feed.look(done)
        return feed.held_out.best_folder(feed.held_out.best(done)["iteration"])

    def _write(self, run: StageRun, feed: PpoFeed, done: int, ledger: Ledger) -> None:
        """Write the curve, the ledger and what held-out prompts say."""
        rows = feed.rows()[:done]
        looks = [] if feed.held_out is None else feed.held_out.points(done)
        parts = {"iterations": rows, "held_out": looks}
        curve = {name: [{key: value for key, value in row.items() if key != "weights"} for row in part] for name, part in parts.items()}
        write_json_atomic(run.folder / "curve.json", curve)
        ledger.count("answers", self.batch * len(rows))
        ledger.count("tokens of answers", round(sum(self.batch * row["length"] for row in rows)))
        ledger.count("answers that did not end", sum(row["without_end"] for row in rows))
        ledger.count("answers that could not be judged", sum(row["not_judged"] for row in rows))
        ledger.write(run.folder / "ledger.json")
        if feed.held_out is not None:
            best = feed.held_out.best(done)
            run.summary |= {"held_out_reward_before": looks[0]["reward"], "held_out_reward": best["reward"], "held_out_kl": best["kl"]}
            run.summary |= {"best_iteration": best["iteration"]}

    def _write_samples(self, run: StageRun, prompts: Sequence[Dialog]) -> None:
        """Write how the saved model answers some held-out prompts."""
        from herdling.generate.loaded import load

        questions = prompts[:NUM_SAMPLES]
        answered = load(run.folder).chat_batch(questions, Sampling(temperature=0.0, max_tokens=self.max_tokens))
        samples = ({"prompt": one.messages[-1].content, "completion": other.message.content} for one, other in zip(questions, answered, strict=True))
        write_jsonl(run.folder / "samples.jsonl", samples)
