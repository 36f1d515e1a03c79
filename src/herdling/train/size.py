"""What a size of model is trained with when a recipe does not say: the papers' figures for their models, the dial's for small ones. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from herdling.base.errors import SettingsError, did_you_mean
from herdling.base.units import parse_count
from herdling.model.config import LlamaConfig
from herdling.model.dial import dial
from herdling.model.presets import PRESETS

# Above this many parameters fine-tuning takes the figures of Llama 2 (section 3.1); its smallest model has 7B, Llama 3.2's has 1B.
PAPER_PARAMETERS = 1_000_000_000
SMALL_SEQUENCE_LENGTH = 256
RAMP = "0:4M@4096 252B:8M@8192 2.87T:16M@8192"
# From this many parameters on PPO is held by half the penalty (Llama 2, section 3.2.3: 34B and 70B).
LARGE_PARAMETERS = 30_000_000_000
# Above this many parameters a reward model is taken for the 70B (Llama 2, section 3.2.2), which had half the learning rate.
LARGEST_PARAMETERS = 65_000_000_000
# name -> peak learning rate, batch, tokens (LLaMA, table 2; Llama 2, table 1; Llama 3, table 3; its smaller sizes had "similar recipes", and 3.2's are ours).
PAPER_RUNS = {
    "llama1-7b": (3e-4, "4M@2048", "1T"),
    "llama1-13b": (3e-4, "4M@2048", "1T"),
    "llama1-33b": (1.5e-4, "4M@2048", "1.4T"),
    "llama1-65b": (1.5e-4, "4M@2048", "1.4T"),
    "llama2-7b": (3e-4, "4M@4096", "2T"),
    "llama2-13b": (3e-4, "4M@4096", "2T"),
    "llama2-70b": (1.5e-4, "4M@4096", "2T"),
    "llama3-8b": (3e-4, RAMP, "15T"),
    "llama3-70b": (1.5e-4, RAMP, "15T"),
    "llama3.1-8b": (3e-4, RAMP, "15T"),
    "llama3.1-70b": (1.5e-4, RAMP, "15T"),
    "llama3.1-405b": (8e-5, RAMP, "15.6T"),
    "llama3.2-1b": (3e-4, RAMP, "15T"),
    "llama3.2-3b": (3e-4, RAMP, "15T"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model's shape and what to train it with."""

    config: LlamaConfig
    lr: float
    """Peak learning rate of pre-training."""
    batch: str
    """Tokens in a step, or a ramp of them, with the sequence length."""
    num_tokens: str


def size_of(name: str, *, vocab_size: int, config: LlamaConfig | None, where: str) -> Size:
    """Return the size of this name (`1M`, `llama2-7b`), or the one nearest to an exact `config`.

    Raises:
        SettingsError: no such size, or the config has fewer rows than the tokenizer has ids.
    """
    if config is not None and config.vocab_size < vocab_size:
        raise SettingsError(f"{where}.model.vocab_size: found {config.vocab_size:,}, the tokenizer has {vocab_size:,} ids")
    if config is None and name in PAPER_RUNS:
        lr, batch, num_tokens = PAPER_RUNS[name]
        return Size(config=replace(PRESETS[name], vocab_size=vocab_size), lr=lr, batch=batch, num_tokens=num_tokens)
    parameters = config.num_parameters() if config is not None else _parameters(name, f"{where}.size")
    return _small(parameters, vocab_size, config)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftSize:
    """What to fine-tune a model with."""

    lr: float
    rows: int
    """Rows in a step."""


def sft_size(config: LlamaConfig) -> SftSize:
    """Return Llama 2's figures (section 3.1) for a model of the papers' sizes; for a small one half of the dial's peak and 8 rows.

    On the starter's dialogs a smaller rate learned fewer facts in the same tokens (docs/log.md), and the papers' 2e-5 moves a miniature hardly at all.
    """
    parameters = config.num_parameters()
    if parameters >= PAPER_PARAMETERS:
        return SftSize(lr=2e-5, rows=64)
    return SftSize(lr=dial(parameters, vocab_size=config.vocab_size).lr / 2, rows=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSize:
    """What to train a reward model with."""

    lr: float
    batch_pairs: int


def reward_size(config: LlamaConfig) -> RewardSize:
    """Return Llama 2's figures (section 3.2.2) for a model of the papers' sizes; for a small one half of the dial's peak, as in fine-tuning, and 64 pairs."""
    parameters = config.num_parameters()
    if parameters >= PAPER_PARAMETERS:
        return RewardSize(lr=5e-6 if parameters >= LARGEST_PARAMETERS else 1e-5, batch_pairs=512)
    small = dial(parameters, vocab_size=config.vocab_size, sequence_length=config.max_position_embeddings)
    return RewardSize(lr=small.lr / 2, batch_pairs=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoSize:
    """What to prefer chosen responses with."""

    lr: float
    batch_pairs: int


def dpo_size(config: LlamaConfig) -> DpoSize:
    """Return Llama 3's rate (section 4.1.4) for a model of the papers' sizes, with 64 pairs, which no paper prints; for a small one a 30th of the dial's peak.

    At four and ten times that a miniature ordered held-out pairs little better, and moved two to five times as far away (docs/log.md).
    """
    parameters = config.num_parameters()
    if parameters >= PAPER_PARAMETERS:
        return DpoSize(lr=1e-5, batch_pairs=64)
    return DpoSize(lr=dial(parameters, vocab_size=config.vocab_size).lr / 30, batch_pairs=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSize:
    """What to learn from the reward with."""

    lr: float
    beta: float
    """Weight of the KL penalty."""


def ppo_size(config: LlamaConfig) -> PpoSize:
    """Return Llama 2's figures (section 3.2.3) for a model of the papers' sizes; for a small one the beta of 7B, and a fortieth of the dial's peak."""
    parameters = config.num_parameters()
    beta = 0.005 if parameters >= LARGE_PARAMETERS else 0.01
    if parameters >= PAPER_PARAMETERS:
        return PpoSize(lr=1e-6, beta=beta)
    return PpoSize(lr=dial(parameters, vocab_size=config.vocab_size).lr / 40, beta=beta)


def check_context(config: LlamaConfig, sequence_length: int, where: str) -> None:
    """Raise `SettingsError` when rows are longer than the model has positions."""
    if sequence_length > config.max_position_embeddings:
        raise SettingsError(
            f"{where}: rows of {sequence_length:,} tokens are longer than the model's context of {config.max_position_embeddings:,}."
            " Shorten the rows, or give the model more max_position_embeddings"
        )


def _parameters(name: str, where: str) -> int:
    try:
        return parse_count(name, where=where)
    except SettingsError:
        raise SettingsError(
            f"{where}: found {name!r}{did_you_mean(name, PAPER_RUNS)}, expected a number of parameters such as 1M, or one of {', '.join(PAPER_RUNS)}"
        ) from None


def _small(parameters: int, vocab_size: int, config: LlamaConfig | None) -> Size:
    """Return what the dial gives; with an exact `config`, what it gives a model of that size."""
    small = dial(parameters, vocab_size=vocab_size, sequence_length=config.max_position_embeddings if config else SMALL_SEQUENCE_LENGTH)
    return Size(
        config=config or small.config,
        lr=small.lr,
        batch=f"{small.batch_tokens}@{small.sequence_length}",
        num_tokens=str(small.num_tokens),
    )
