"""The stage reward: a chat model becomes a reward model, which learns from comparisons what people prefer.

Reads a chat model's folder and sets of comparisons; writes a model folder (transformers opens it as `LlamaForSequenceClassification`) with `ledger.json`,
`metrics.jsonl`, `results.json` (what it reports on the test comparisons of every set) and `scores.jsonl` (each of their scores).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.comparison_records import read_comparisons
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.comparison_feed import ComparisonFeed
from herdling.data.comparison_mix import MixConfig, draw
from herdling.data.comparison_rows import NOT_CLEAR, ObjectiveName, RankedResponses, answered, encode_comparisons, encode_responses, reward_batch
from herdling.evals.reward import ScoredComparison, report_card
from herdling.preference.rating import MARGINS, Margin
from herdling.stages.registry import ComparisonsInput, ModelInput, StageRun, stage
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig
from herdling.types import Comparison, RewardBatch

if TYPE_CHECKING:
    from herdling.generate.loaded import LoadedModel
    from herdling.model.precision import Device
    from herdling.model.reward import RewardModel

RewardFeed = ComparisonFeed[RankedResponses, RewardBatch]
MIN_WARMUP_STEPS = 5
"""Llama 2, section 3.2.2: a warm-up of 3 % of the steps, with a minimum of 5."""


@stage("reward", output="reward")
class Reward:
    """Train a reward model (Llama 2, section 3.2.2; Llama 3, section 4.1.2): the body of the chat model with a scalar head, whose value at the token that ends
    an answer is the answer's score; binary ranking loss with a margin by rating, one epoch, 512 pairs a step, AdamW with weight decay 0.1, cosine to a tenth,
    warm-up 3 % of the steps and at least 5. A prompt is computed once for all of its responses, which do not read each other.
    """

    model: ModelInput
    """The chat model to begin with, so that the reward model knows what the policy knows: the output of sft, or a model folder."""
    comparisons: dict[str, ComparisonsInput]
    """Name of a set -> where its comparisons are: a frozen round, an import, or the output of collect. Their test shares are never trained on."""
    mix: MixConfig | None = None
    """Which sets, in which shares (Llama 2, section 3.2.2, "Data Composition"). Unset: all of all sets."""
    objective: ObjectiveName = "llama2"
    """`llama2`: the chosen and the rejected response, margin by rating. `llama3`: all responses, edited > chosen > rejected, no margin, and only comparisons
    rated significantly better or better, or not rated at all."""
    margin: Margin | None = None
    """By how much scores shall differ at each rating (Llama 2, table 27): `small` 1, 2/3, 1/3, 0; `large` 3, 2, 1, 0; `none` 0. Unset: `small` for `llama2`,
    the best on average there (table 28), and `none` for `llama3`, which has no margin."""
    safety_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that tells safe from unsafe responses (Llama 2, section A.3.3; its weight is not printed). 0: off, as for helpfulness."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How often each comparison is seen; the paper saw overfitting beyond one."""
    batch_pairs: Annotated[int, Field(ge=1)] | None = None
    """Comparisons in a step. Unset: 512 for a size of the papers, 64 for a small model, so that a small set still makes enough steps."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of the comparisons cannot be used. Those that `llama3` leaves out by their rating do not count."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW, as for the base model. Peak learning rate when unset: 5e-6 at 70B, 1e-5 for the papers' other sizes, the dial's for a small model."""
    schedule: ScheduleConfig = ScheduleConfig(warmup="3%")
    """Cosine to a tenth of the peak. The warm-up is at least 5 steps long, whatever its share."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs. Held-out comparisons are scored once, at the end."""

    def run(self, run: StageRun) -> None:
        """Read, mix, encode, train, save, score the test comparisons."""
        from herdling.checkpoint.huggingface import save_model
        from herdling.generate.loaded import load
        from herdling.model.reward import RewardModel
        from herdling.train.size import reward_size
        from herdling.train.start import settle_device

        where, seed = f"stages.{run.name}", stream_seed(run.seed, run.name)
        margins = MARGINS[self._margin(where)]
        device = settle_device(self.loop, run.folder)
        chat = load(run.input(self.model), dtype="float32")
        run.record(tokenizer=chat.tokenizer.fingerprint, chat_template=chat.chat_format.fingerprint)
        context, size = chat.config.max_position_embeddings, reward_size(chat.config)
        held_out = {name: list(comparisons_of(run.input(reference), "test")) for name, reference in self.comparisons.items()}
        if not any(held_out.values()):
            raise DataError(f"{where}.comparisons: no set has test comparisons, so nothing could be said of the model. Hold a share out (test_share)")

        ledger = Ledger(run.name)
        drawn = self._draw(run, seed, ledger)
        encoded = encode_comparisons(drawn, chat.chat_format, ledger, context=context, objective=self.objective, margins=margins)
        ledger.check(self.max_dropped_share, harmless=(NOT_CLEAR,))
        feed = ComparisonFeed(
            encoded,
            reward_batch,
            batch_pairs=self.batch_pairs or size.batch_pairs,
            epochs=self.epochs,
            seed=seed,
            hidden_size=chat.config.hidden_size,
            pad_id=chat.tokenizer.pad_id,
        )
        model = RewardModel.from_llama(chat.model, seed)
        trained = self._train(run, model, feed, self.optimizer.lr or size.lr, device)
        save_model(run.folder, model, chat.tokenizer, chat.chat_format)

        scored = score_held_out(load(run.folder, dtype="float32", device=device.device.type), held_out, ledger)
        results = report_card(scored)
        write_jsonl(run.folder / "scores.jsonl", map(_score_row, scored))
        write_json_atomic(run.folder / "results.json", results)
        ledger.write(run.folder / "ledger.json")
        accuracy = results["all"]["accuracy"]
        run.summary |= {"comparisons": ledger.kept, "pairs": ledger.counts["pairs"], "epochs": self.epochs, **trained}
        run.summary |= {"test_comparisons": accuracy["total"], "test_accuracy": round(accuracy["accuracy"], 4)}
        remove(run.folder / "checkpoints")

    def _train(self, run: StageRun, model: RewardModel, feed: RewardFeed, lr: float, device: Device) -> dict[str, Any]:
        """Rank the responses of each comparison, over as many steps as the feed has."""
        from herdling.train.preference_losses import PairwiseReward
        from herdling.train.schedule import plan_schedule
        from herdling.train.start import train_llama

        # The schedule counts positions: a step's rows on average. Warm-up and decay follow the steps, whose true sizes differ a little.
        schedule = plan_schedule(
            self.schedule,
            num_tokens=feed.num_steps * feed.positions,
            batch=str(feed.positions),
            sequence_length=feed.row_length,
            where=f"stages.{run.name}",
            min_warmup_steps=MIN_WARMUP_STEPS,
        )
        return train_llama(
            model,
            PairwiseReward(safety_weight=self.safety_loss),
            feed,
            schedule=schedule,
            optimizer=self.optimizer,
            lr=lr,
            loop=self.loop,
            device=device,
            folder=run.folder,
            progress=run.progress,
            stop_requested=run.stop_requested,
        )

    def _margin(self, where: str) -> Margin:
        if self.objective == "llama3" and self.margin not in (None, "none"):
            raise SettingsError(f"{where}.margin: found {self.margin!r}; the objective llama3 has no margin. Leave it out, or take objective = 'llama2'")
        return self.margin or ("small" if self.objective == "llama2" else "none")

    def _draw(self, run: StageRun, seed: int, ledger: Ledger) -> Sequence[Comparison]:
        sets = {name: list(comparisons_of(run.input(reference), "train")) for name, reference in self.comparisons.items()}
        filled = tuple(name for name, found in sets.items() if found)
        if not filled:
            raise DataError(f"stages.{run.name}.comparisons: no set has comparisons to train on")
        mix = self.mix or MixConfig(main=filled)
        return draw(mix, sets, stream_seed(seed, "mix"), ledger)


def comparisons_of(folder: Path, split: str) -> Iterator[Comparison]:
    """Yield a set's comparisons; none where the set has no such split."""
    if (folder / "comparisons" / f"{split}.jsonl").is_file():
        yield from read_comparisons(folder, split)


def score_held_out(model: LoadedModel, sets: Mapping[str, Sequence[Comparison]], ledger: Ledger) -> list[ScoredComparison]:
    """Score every response of the test comparisons; those that the model cannot read are set aside and counted.

    Raises:
        DataError: none is left.
    """
    own = Ledger("test comparisons")
    kept: list[tuple[str, Comparison]] = []
    for name, comparisons in sets.items():
        for comparison in comparisons:
            own.read()
            every = range(len(comparison.responses))
            if encode_responses(comparison, every, model.chat_format, model.config.max_position_embeddings, own) is not None:
                own.keep()
                kept.append((name, comparison))
    own.check(1.0)
    ledger.counts["test comparisons"] = own.to_dict()
    scores = iter(model.score_batch([answered(comparison, index) for _, comparison in kept for index in range(len(comparison.responses))]))
    return [ScoredComparison(comparison, tuple(next(scores) for _ in comparison.responses), name) for name, comparison in kept]


def _score_row(scored: ScoredComparison) -> dict[str, object]:
    comparison = scored.comparison
    return {"set": scored.set, "id": comparison.id, "scores": list(scored.scores), "ranking": list(comparison.ranking), "rating": comparison.rating}
