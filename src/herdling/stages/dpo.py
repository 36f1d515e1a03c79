"""The stage dpo: a chat model learns from comparisons directly, without a reward model between, held to a reference that it begins as.

Reads a chat model's folder and sets of comparisons; writes a model folder with its chat template, `ledger.json`, `metrics.jsonl`, `results.json` (how the test
comparisons of the sets are ordered by what was learned) and `samples.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import combinations, islice
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.errors import DataError, LineageError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.comparison_feed import ComparisonFeed, comparisons_digest
from herdling.data.preference_rows import NOT_ASKED, Formatting, NllNorm, Pairing, PreferredResponses, encode_preferences, preference_batch
from herdling.stages.registry import ComparisonsInput, ModelInput, StageRun, stage
from herdling.stages.reward import comparisons_of
from herdling.train.config import LoopConfig, MovingReferenceConfig, OptimizerConfig, ScheduleConfig
from herdling.types import Comparison, PreferenceBatch, Rating, Sampling

if TYPE_CHECKING:
    from herdling.generate.loaded import DtypeName, LoadedModel
    from herdling.model.precision import Device
    from herdling.model.transformer import Llama

NUM_SAMPLES = 4
PreferenceFeed = ComparisonFeed[PreferredResponses, PreferenceBatch]


@stage("dpo", output="model")
class Dpo:
    """Direct preference optimization (Llama 3, section 4.1.4): the log-probability of the chosen response rises against that of the rejected one, each less
    what a reference says, the model itself as it was at the start; beta 0.1; formatting tokens stay out of the loss on both sides; 0.2 times the NLL of the
    chosen response is added. A prompt is computed once for its responses, which do not read each other; of a dialog only the last answer is scored.
    """

    model: ModelInput
    """The chat model to begin with: the output of sft, or a model folder."""
    comparisons: dict[str, ComparisonsInput]
    """Name of a set -> where its comparisons are: frozen rounds, an import, the output of collect, or samples. Llama 3 takes the latest rounds only (section
    4.2.1): list those. Their test shares are never trained on."""
    ratings: tuple[Rating, ...] = ("significantly", "better")
    """How much better the chosen response must be (Llama 3, section 4.2.1). Comparisons that nobody rated are used whatever stands here."""
    pairs: Pairing = "ends"
    """Which pairs a comparison of three makes (edited > chosen > rejected): `ends` is edited over rejected, `all` is each over each below it. The paper leaves
    it open; a rating speaks of chosen and rejected, so the pair that contains that difference is the sure one."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How dear a nat of difference to the reference is: the larger, the nearer the policy stays (section 4.1.4)."""
    formatting: Formatting = "masked"
    """The token that ends a response: `masked` leaves it out of the loss on both sides, because the two would pull at one token in opposite directions
    (section 4.1.4); `nll` keeps it in the NLL term of the chosen response; `trained` counts it everywhere, as TRL does. The header stands before both responses
    and never counts. A response that broke off has no end to learn."""
    nll: Annotated[float, Field(ge=0)] = 0.2
    """Weight of the negative log-likelihood of the chosen response (section 4.1.4). 0: off, the loss of the DPO paper."""
    nll_norm: NllNorm = "sequence"
    """What that is per; the paper leaves it open. `sequence`: the mean over a response's tokens, then over pairs (Pang et al. 2024, whom the paper follows);
    `batch`: the mean over all tokens of chosen responses in a step, as TRL's `sft` loss; `sum`: the sum over a response's tokens."""
    reference: ModelInput | None = None
    """What the policy is held to. Unset: `model`, as in the paper. Another one must have the same tokenizer and chat template."""
    moving_reference: MovingReferenceConfig | None = None
    """Let the reference follow the policy as a moving average (section 7.5.5). Unset: it stays what it is, and is asked once before training."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How often each comparison is seen. The paper prints none."""
    batch_pairs: Annotated[int, Field(ge=1)] | None = None
    """Comparisons in a step. Unset: 64 for a size of the papers, 32 for a small model; no paper prints it."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of the comparisons cannot be used. Those left out by their rating do not count."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW, as for the base model. Peak learning rate when unset: 1e-5 for a size of the papers (section 4.1.4), the dial's share for a small model."""
    schedule: ScheduleConfig = ScheduleConfig(warmup="10%")
    """Of the learning rate; the paper prints no warm-up and no floor."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs. Held-out comparisons are measured once, at the end."""

    def run(self, run: StageRun) -> None:
        """Read, encode, ask the reference, train, save, measure on test comparisons."""
        from herdling.checkpoint.huggingface import save_model
        from herdling.generate.loaded import load
        from herdling.train.start import settle_device

        device = settle_device(self.loop, run.folder)
        policy = load(run.input(self.model), dtype="float32")
        run.record(tokenizer=policy.tokenizer.fingerprint, chat_template=policy.chat_format.fingerprint)
        ledger, tested = Ledger(run.name), Ledger("test comparisons")
        encoded = self._encode(self._read(run, "train", ledger), policy, ledger)
        ledger.check(self.max_dropped_share, harmless=(NOT_ASKED,))
        test = self._read(run, "test", tested)
        held_out = self._encode(test, policy, tested)

        if self.moving_reference is None:
            encoded = self._ask_reference(run, "reference", encoded, policy, device)
        held_out = self._ask_reference(run, "reference_test", held_out, policy, device)
        trained = self._train(run, policy, encoded, device)
        save_model(run.folder, policy.model, policy.tokenizer, policy.chat_format)

        model = load(run.folder, device=device.device.type, dtype=_type_name(device))
        results = self._measure(model, held_out, device)
        write_json_atomic(run.folder / "results.json", results)
        write_jsonl(run.folder / "samples.jsonl", sample(model, test))
        ledger.counts["test comparisons"] = tested.to_dict()
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"comparisons": ledger.kept, "pairs": ledger.counts["pairs"], "epochs": self.epochs, **trained}
        run.summary |= {f"test_{name}": value for name, value in results.items()}
        for name in ("checkpoints", "reference", "reference_test"):
            remove(run.folder / name)

    def _read(self, run: StageRun, split: str, ledger: Ledger) -> list[Comparison]:
        """Return the comparisons of all sets, and count them. Raises `DataError` when there is none to train on."""
        sets = {name: list(comparisons_of(run.input(reference), split)) for name, reference in self.comparisons.items()}
        ledger.counts["sets"] = {name: len(found) for name, found in sets.items()}
        if split == "train" and not any(sets.values()):
            raise DataError(f"stages.{run.name}.comparisons: no comparison to train on in {', '.join(sets) or 'no set at all'}")
        return [comparison for found in sets.values() for comparison in found]

    def _encode(self, comparisons: Sequence[Comparison], policy: LoadedModel, ledger: Ledger) -> list[PreferredResponses]:
        context = policy.config.max_position_embeddings
        return encode_preferences(
            comparisons, policy.chat_format, ledger, context=context, ratings=self.ratings, pairing=self.pairs, formatting=self.formatting
        )

    def _load_reference(self, run: StageRun, policy: LoadedModel, device: Device, dtype: DtypeName) -> Llama:
        """Load what the policy is held to. Raises `LineageError` when its token ids or its chats mean something else."""
        from herdling.generate.loaded import load

        found = load(run.input(self.reference or self.model), device=device.device.type, dtype=dtype)
        for what, own, other in (
            ("tokenizer", policy.tokenizer.fingerprint, found.tokenizer.fingerprint),
            ("chat template", policy.chat_format.fingerprint, found.chat_format.fingerprint),
        ):
            if own != other:
                raise LineageError(
                    f"stages.{run.name}.reference: {found.name} has the {what} {other[:12]}, the model {own[:12]}."
                    " Their log-probabilities would be of different tokens: take a reference of the model's own line"
                )
        return found.model

    def _ask_reference(
        self, run: StageRun, name: str, comparisons: Sequence[PreferredResponses], policy: LoadedModel, device: Device
    ) -> list[PreferredResponses]:
        """Return the comparisons with what the frozen reference says of each response, in the type that training computes in: both sides then round alike."""
        from herdling.generate.fingerprint import model_fingerprint
        from herdling.train.forward import scorer
        from herdling.train.frozen_reference import with_frozen_reference

        dtype = _type_name(device)
        made_from = {"reference model": model_fingerprint(run.input(self.reference or self.model)), "type of numbers": dtype}
        return with_frozen_reference(
            comparisons,
            lambda: scorer(self._load_reference(run, policy, device, dtype)),
            folder=run.folder / name,
            made_from=made_from | {"comparisons": comparisons_digest(comparisons)},
            device=device.device,
            micro_batch_tokens=self.loop.micro_batch_tokens,
            progress=run.progress,
            stop_requested=run.stop_requested,
        )

    def _train(self, run: StageRun, policy: LoadedModel, encoded: Sequence[PreferredResponses], device: Device) -> dict[str, Any]:
        """Prefer what was chosen, over as many steps as the feed has."""
        from herdling.train.dpo_loss import PreferenceLoss
        from herdling.train.moving_reference import FollowedFeed, MovingReference
        from herdling.train.schedule import plan_schedule
        from herdling.train.size import dpo_size
        from herdling.train.start import train_llama

        size = dpo_size(policy.config)
        feed = PreferenceFeed(
            encoded,
            partial(preference_batch, nll_norm=self.nll_norm),
            batch_pairs=self.batch_pairs or size.batch_pairs,
            epochs=self.epochs,
            seed=stream_seed(run.seed, run.name),
            hidden_size=policy.config.hidden_size,
            pad_id=policy.tokenizer.pad_id,
        )
        moving = None
        if self.moving_reference is not None:
            second = self._load_reference(run, policy, device, "float32")
            if second.config != policy.config:
                raise SettingsError(f"stages.{run.name}.moving_reference: the reference has another shape than the model, so no average of both can be taken")
            moving = MovingReference(second, policy.model, self.moving_reference)
        positions = feed.num_steps * feed.positions
        return train_llama(
            policy.model,
            PreferenceLoss(beta=self.beta, nll=self.nll, reference=moving),
            FollowedFeed(feed, moving) if moving else feed,
            schedule=plan_schedule(self.schedule, num_tokens=positions, batch=str(feed.positions), sequence_length=feed.row_length, where=f"stages.{run.name}"),
            optimizer=self.optimizer,
            lr=self.optimizer.lr or size.lr,
            loop=self.loop,
            device=device,
            folder=run.folder,
            progress=run.progress,
            stop_requested=run.stop_requested,
        )

    def _measure(self, model: LoadedModel, held_out: Sequence[PreferredResponses], device: Device) -> dict[str, float]:
        """Return how the test comparisons are ordered by what was learned, log p - log ref: means over their pairs; nothing where there are none."""
        from herdling.train.forward import scorer
        from herdling.train.frozen_reference import score_responses

        if not held_out:
            return {}
        logprobs = score_responses(held_out, scorer(model.model), device=device.device, micro_batch_tokens=self.loop.micro_batch_tokens)
        shifts = [[now - before for now, before in zip(found, one.reference, strict=True)] for one, found in zip(held_out, logprobs, strict=True)]
        # Responses stand from best to worst.
        chosen, rejected = np.array([pair for found in shifts for pair in combinations(found, 2)]).T
        means = {"accuracy": chosen > rejected, "margin": self.beta * (chosen - rejected), "chosen_shift": chosen, "rejected_shift": rejected}
        return {"pairs": len(chosen), **{name: round(float(values.mean()), 4) for name, values in means.items()}}


def _type_name(device: Device) -> DtypeName:
    """Return the type that training computes in, by name."""
    return "float32" if device.dtype.itemsize == 4 else "bfloat16"


def sample(model: LoadedModel, comparisons: Iterable[Comparison]) -> list[dict[str, str]]:
    """Return how a model answers the first prompts that fit into its context, greedily."""
    fitting = (one.dialog for one in comparisons if model.chat_length(one.dialog) < model.config.max_position_embeddings)
    asked = list(islice(fitting, NUM_SAMPLES))
    answers = model.chat_batch(asked, Sampling(temperature=0.0, max_tokens=128))
    return [{"prompt": dialog.messages[-1].content, "completion": answer.message.content} for dialog, answer in zip(asked, answers, strict=True)]
