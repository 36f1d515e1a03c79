"""The stage pretrain: a Llama from random weights, trained to predict the next token of a mixture of sources.

Reads token shards and their tokenizer; writes a model folder (Hugging Face's form) with `metrics.jsonl`, `ledger.json` (what was drawn from each source) and
`samples.jsonl` (how it continues held-out texts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import remove
from herdling.base.decode import Volatile, encode
from herdling.base.errors import SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream_seed
from herdling.base.units import parse_count, parse_flops
from herdling.model.config import LlamaConfig
from herdling.stages.chosen_mix import source_weights
from herdling.stages.forecast_model import Law, read_law
from herdling.stages.registry import DataMixInput, ScalingLawInput, StageRun, TokenizerInput, TokensInput, stage
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from herdling.data.packing import TokenRows
    from herdling.data.token_shards import TokenShards
    from herdling.model.precision import Device
    from herdling.model.transformer import Llama
    from herdling.tokenizer.base import Tokenizer
    from herdling.train.schedule import Schedule

SAMPLE_TOKENS = 24


@stage("pretrain", output="model")
class Pretrain:
    """Train from scratch (Llama 1, section 2; Llama 2, section 2.2; Llama 3, section 3.4.1): rows cut from documents of sources drawn by proportion, each
    document apart from its neighbours, AdamW, warm-up and cosine over the tokens of the run, clipping at 1.
    """

    tokens: TokensInput
    """The texts as tokens: the output of tokenize."""
    tokenizer: TokenizerInput
    """The tokenizer that made them; it is saved with the model."""
    size: str = "1M"
    """How large: a number of parameters such as `1M` or `15M`, shaped by the dial of small models, or a size of the papers such as `llama2-7b`."""
    model: LlamaConfig | None = None
    """The exact shape, in place of `size`. `vocab_size` must hold the tokenizer's ids."""
    scaling_law: ScalingLawInput | None = None
    """A fitted sweep (the stage scaling_laws) that chooses size, tokens, batch and learning rate for `flops`, in place of `size`. The trained model is
    measured on the sweep's held-out rows, and forecast and measured loss stand beside each other in the summary."""
    flops: str | None = None
    """Training compute, 6ND, such as `1.3e14`, that `scaling_law` spends."""
    num_tokens: str | None = None
    """How many tokens to train on, such as `4M` or `1.4T`. Unset: what the paper or the dial gives the size."""
    sources: dict[str, float] = field(default_factory=dict)
    """Name of a source -> its weight in the mixture (Llama 1, table 1). Empty: each source by its size."""
    mix: DataMixInput | None = None
    """The weights that the stage choose_mix chose, in place of `sources` (Llama 3, section 3.1.2). They stand in the summary and in `mix.json`."""
    max_epochs: Annotated[float, Field(gt=0)] = 4.0
    """No source is repeated more often; what it lacks is spread over the others. Llama 1 saw most text once, books and Wikipedia about twice."""
    sequence_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens in a row. Unset: 2,048, 4,096 or 8,192 as in the papers, or the dial's."""
    batch: str | None = None
    """Tokens in a step: a count such as `4M`, or a ramp such as `0:4M@4096 252B:8M@8192 2.87T:16M@8192` (Llama 3, section 3.4.1). Unset: the size's."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The course of the learning rate."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs."""
    validation_tokens: Annotated[int, Volatile(), Field(ge=1)] = 16_384
    """How many held-out tokens of each source are measured during training. The stage evaluate measures all."""

    def run(self, run: StageRun) -> None:
        """Lay out the run, train, save."""
        from herdling.checkpoint.huggingface import save_model
        from herdling.data.token_shards import has_tokens, open_shards
        from herdling.model.transformer import Llama
        from herdling.tokenizer import load_tokenizer
        from herdling.train.schedule import plan_schedule
        from herdling.train.size import check_context, size_of
        from herdling.train.start import settle_device

        where, seed = f"stages.{run.name}", stream_seed(run.seed, run.name)
        tokenizer, texts = load_tokenizer(run.input(self.tokenizer)), run.input(self.tokens)
        run.record(tokenizer=tokenizer.fingerprint)
        train = open_shards(texts, "train", tokenizer=tokenizer.fingerprint)
        held_out = open_shards(texts, "validation", tokenizer=tokenizer.fingerprint) if has_tokens(texts, "validation") else {}

        sources = source_weights(run, self.mix, self.sources)
        law = self._law(run, sources, where)
        size = law.size(parse_flops(str(self.flops), f"{where}.flops"), tokenizer.vocab_size, f"{where}.scaling_law") if law else None
        size = size or size_of(self.size, vocab_size=tokenizer.vocab_size, config=self.model, where=where)
        num_tokens = parse_count(self.num_tokens or size.num_tokens, where=f"{where}.num_tokens")
        schedule = plan_schedule(self.schedule, num_tokens=num_tokens, batch=self.batch or size.batch, sequence_length=self.sequence_length, where=where)
        check_context(size.config, max(phase.sequence_length for phase in schedule.phases), where)
        rows = self._rows(run, train, sources, schedule.num_tokens, seed)

        device = settle_device(self.loop, run.folder)
        model = Llama(size.config)
        model.init_weights(stream_seed(seed, "weights"))
        trained = self._train(run, model, rows, schedule, self.optimizer.lr or size.lr, device, held_out)
        run.summary |= {"parameters": size.config.num_parameters(), **trained}
        if law:
            run.summary |= law.compare(model, schedule.num_tokens, held_out, device, run.folder)
        save_model(run.folder, model, tokenizer)

        _write_ledger(run, rows(schedule.phases[-1].sequence_length))
        _write_samples(run, tokenizer, held_out or train)
        remove(run.folder / "checkpoints")

    def _law(self, run: StageRun, sources: Mapping[str, float], where: str) -> Law | None:
        """Return the law that chooses the size, if one is named, and check that nothing else chooses it too."""
        if (self.scaling_law is None) != (self.flops is None):
            raise SettingsError(f"{where}: scaling_law and flops go together: the law says what this compute buys best")
        if self.scaling_law is None:
            return None
        law = read_law(run.input(self.scaling_law))
        asked = {"mix" if self.mix else "sources": sources != law.record["sources"], "model": self.model is not None}
        asked |= {name: encode(getattr(self, name)) != law.record[name] for name in ("optimizer", "schedule")}
        if wrong := [name for name, is_wrong in asked.items() if is_wrong]:
            raise SettingsError(f"{where}.{wrong[0]}: differs from what {self.scaling_law} was made with, so its forecast would be of another model")
        return law

    def _rows(self, run: StageRun, train: Mapping[str, TokenShards], sources: Mapping[str, float], num_tokens: int, seed: int) -> Callable[[int], TokenRows]:
        """Return what lays out this many tokens in rows of a length, drawn from the sources by their weights."""
        from herdling.data.mixture import Mixture, plan_mixture
        from herdling.data.packing import TokenRows

        where = f"stages.{run.name}.{'mix' if self.mix else 'sources'}"
        held = {name: shards.num_tokens for name, shards in train.items()}
        plans = plan_mixture(held, sources, total_tokens=num_tokens, max_epochs=self.max_epochs, where=where)
        if self.mix and (short := [plan.source for plan in plans if plan.capped]):
            run.progress.note(f"less of {', '.join(short)} than the mix asks for: max_epochs = {self.max_epochs:g} allows no more")

        def rows(length: int) -> TokenRows:
            mixture = Mixture(plans, num_rows=-(-num_tokens // length), seed=seed)
            return TokenRows(train, mixture, sequence_length=length, seed=seed)

        return rows

    def _train(
        self, run: StageRun, model: Llama, rows: Callable[[int], TokenRows], schedule: Schedule, lr: float, device: Device, held_out: Mapping[str, TokenShards]
    ) -> dict[str, Any]:
        """Predict the next token, in rows as long as the schedule says; measure bits per byte of each held-out source on the way."""
        from herdling.evals.likelihood import likelihood
        from herdling.train.feed import ScheduledFeed
        from herdling.train.losses import NextToken
        from herdling.train.start import train_llama

        def validate() -> dict[str, float]:
            window, limit = schedule.phases[-1].sequence_length, self.validation_tokens
            return {name: likelihood(model, shards, window=window, max_tokens=limit).bits_per_byte for name, shards in held_out.items()}

        return train_llama(
            model,
            NextToken(),
            ScheduledFeed(schedule, rows),
            schedule=schedule,
            optimizer=self.optimizer,
            lr=lr,
            loop=self.loop,
            device=device,
            folder=run.folder,
            validate=validate if held_out else None,
            progress=run.progress,
            stop_requested=run.stop_requested,
        )


def _write_ledger(run: StageRun, rows: TokenRows) -> None:
    """Write what was drawn from each source."""
    from herdling.data.mixture import mixture_report

    ledger = Ledger(run.name)
    ledger.counts["mixture"] = mixture_report(rows.mixture, position=rows.num_rows, sequence_length=rows.sequence_length)
    ledger.write(run.folder / "ledger.json")


def _write_samples(run: StageRun, tokenizer: Tokenizer, texts: Mapping[str, TokenShards]) -> None:
    """Write how the saved model goes on from the beginning of a text of each source."""
    from herdling.generate.loaded import load

    prompts = [tokenizer.decode(shards.document(0)[:SAMPLE_TOKENS].tolist()) for shards in texts.values()]
    completions = load(run.folder).generate_batch(prompts, max_tokens=64, seed=run.seed)
    write_jsonl(run.folder / "samples.jsonl", ({"prompt": one, "completion": other} for one, other in zip(prompts, completions, strict=True)))
