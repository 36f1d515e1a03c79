"""The sizes that the quickstart may raise, and how long the whole of it takes with each: a faster machine raises a larger model in the same time. No torch.

The first rung is the recipe as it is written, whose scores the README shows: no machine gets less. The others grow in size and tokens together, until the
starter's text of three million tokens has been read nearly four times. What follows pre-training has a number of tokens that does not change with the
size, but whose price does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType

from herdling.base.errors import SettingsError
from herdling.base.units import format_seconds, parse_count
from herdling.model.config import LlamaConfig
from herdling.model.dial import dial
from herdling.plan.budget import peak_lr, step_tokens
from herdling.plan.step_time import StepLaw, StepShape

VOCABULARY = 4096
SEQUENCE_LENGTH = 256
WHOLE_SECONDS = 10 * 60.0
"""What the quickstart may take where nobody says: about what the first rung takes on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A size and what it is pre-trained with, as settings of the stage pretrain."""

    size: str
    num_tokens: str
    batch: str
    lr: float

    @property
    def config(self) -> LlamaConfig:
        """The shape that the dial gives the size."""
        return dial(parse_count(self.size, where="size"), vocab_size=VOCABULARY, sequence_length=SEQUENCE_LENGTH).config

    @property
    def overrides(self) -> list[str]:
        """The rung as lines of `--set`."""
        settings: Mapping[str, str] = {"size": f'"{self.size}"', "num_tokens": f'"{self.num_tokens}"', "batch": f'"{self.batch}"', "optimizer.lr": f"{self.lr}"}
        return [f"stages.pretrain.{name}={value}" for name, value in settings.items()]


def _rung(size: str, num_tokens: str) -> Rung:
    parameters = dial(parse_count(size, where="size"), vocab_size=VOCABULARY, sequence_length=SEQUENCE_LENGTH).config.num_parameters()
    tokens = parse_count(num_tokens, where="num_tokens")
    step = step_tokens(parameters, tokens, SEQUENCE_LENGTH)
    return Rung(size=size, num_tokens=num_tokens, batch=f"{step}@{SEQUENCE_LENGTH}", lr=peak_lr(parameters, tokens))


RUNGS = tuple(_rung(*pair) for pair in (("1.3M", "4M"), ("2.2M", "5M"), ("3.4M", "6M"), ("5M", "8M"), ("10M", "11M")))
"""Smallest first. Beyond the last there would be less than a token a parameter."""

TUNED_TOKENS = MappingProxyType({"assistant": 3.2e6, "quickstart": 3.2e6})
"""Tokens of supervised fine-tuning, padding too: the starter's 24,300 dialogs twice."""
SUPERVISED = 0.38
"""Share of them that has a loss."""
# What the other stages take, as multiples of pre-training the first rung: those that read text, whatever the model; those whose work grows with the model
# (sampling, judging, preferences, reward models). Of 10 min 27 s on two cores (docs/log.md), where pre-training takes 110 s; on one core the latter: 2 to 3.
READING = MappingProxyType({"assistant": 0.05, "quickstart": 0.06})
AFTERWARDS = MappingProxyType({"assistant": 0.5, "quickstart": 4.0})


def whole_seconds(law: StepLaw, rung: Rung, *, recipe: str = "quickstart", factor: float = 1.0) -> float:
    """Return the seconds of the whole recipe with this rung; `factor` is what finished runs corrected the law by."""
    return sum(stage_seconds(law, rung, recipe=recipe, factor=factor).values())


def stage_seconds(law: StepLaw, rung: Rung, *, recipe: str = "quickstart", factor: float = 1.0) -> dict[str, float]:
    """Return the seconds of pre-training, of fine-tuning, and of what else there is, by name."""
    tokens = parse_count(rung.num_tokens, where="num_tokens")
    batch = parse_count(rung.batch.partition("@")[0], where="batch")
    pretrain = factor * tokens / batch * law.seconds(StepShape(model=rung.config, tokens=batch, sequence_length=SEQUENCE_LENGTH))
    return {"pretrain": pretrain, **other_seconds(law, rung.config, recipe=recipe, factor=factor)}


def other_seconds(law: StepLaw, config: LlamaConfig, *, recipe: str, factor: float = 1.0) -> dict[str, float]:
    """Return the seconds of all but pre-training with a model of this shape, by name."""
    first = RUNGS[0]
    step, of_first = (factor * law.seconds(StepShape(model=model, tokens=2048, sequence_length=SEQUENCE_LENGTH)) for model in (config, first.config))
    tuned = StepShape(model=config, tokens=2048, sequence_length=SEQUENCE_LENGTH, supervised=SUPERVISED)
    unit = parse_count(first.num_tokens, where="num_tokens") / 2048 * of_first
    return {
        "reading text": READING[recipe] * unit,
        "sft": factor * TUNED_TOKENS[recipe] / 2048 * law.seconds(tuned),
        "what follows": AFTERWARDS[recipe] * unit * step / of_first,
    }


def choose_rung(law: StepLaw, seconds: float = WHOLE_SECONDS, *, factor: float = 1.0) -> tuple[Rung, float]:
    """Return the largest rung whose whole quickstart fits into the seconds, else the first, and its forecast."""
    forecasts = [(rung, whole_seconds(law, rung, factor=factor)) for rung in RUNGS]
    return next((pair for pair in reversed(forecasts) if pair[1] <= seconds), forecasts[0])


def larger_minutes(law: StepLaw, rung: Rung, *, factor: float = 1.0) -> int | None:
    """Return the minutes that raise the next larger rung here; None for the largest."""
    larger = RUNGS[RUNGS.index(rung) + 1 :]
    return ceil(whole_seconds(law, larger[0], factor=factor) / 60) if larger else None


def rung_for(law: StepLaw, seconds: float, *, factor: float = 1.0) -> tuple[Rung, float]:
    """Return the rung for a time that a user asks for. Raises `SettingsError` where not even the first fits, and says what it takes."""
    rung, whole = choose_rung(law, seconds, factor=factor)
    if whole > seconds:
        raise SettingsError(
            f"--budget: {format_seconds(seconds)} are too few here: the smallest that keeps its word, {rung.size} parameters, takes {format_seconds(whole)}"
            f" on this machine. Give it --budget {round(whole / 60 + 1)}m, or leave --budget out"
        )
    return rung, whole
