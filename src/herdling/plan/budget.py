"""The dial: what time, compute or money buys best. A budget and what each size costs here -> the size and tokens with the least expected loss. No torch.

Sizes are not weighed by 6ND but by what they take on the machine at hand: a miniature's FLOPs are slow ones, so time buys larger models than compute alone
would say. Text that runs out bounds the tokens: it is repeated at most four times, where repeated text is still nearly as good as new (Muennighoff et al.,
2023, arXiv 2305.16264).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Literal

from herdling.base.errors import SettingsError
from herdling.base.units import format_count, format_seconds
from herdling.model.config import LlamaConfig
from herdling.model.dial import batch_tokens, learning_rate
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, ParametricLaw

MAX_EPOCHS = 4.0
LEAST_PER_PARAMETER = 1.0
"""A model that cannot have so many tokens a parameter, because the text runs out, is not weighed: the laws know no text that runs out. Ours."""
MIN_STEPS = 200
"""Fewer steps are no training: the learning rate has no room to rise and fall."""
WANTED_STEPS = 2000
"""A run of few tokens is cut into this many steps rather than into large ones."""
FEW_TOKENS = 20.0
"""Tokens a parameter below which a miniature takes a higher rate: with 3 a parameter and steps of 2,048 tokens 1.4 times the dial's was best (docs/log.md)."""
FEW_TOKENS_RATE = 1.43
DIAL_PARAMETERS = 20e6
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")
_FLOPS = re.compile(r"^(\d+(?:\.\d+)?(?:e\+?\d+))\s*(?:flops?)?$", re.IGNORECASE)
ACCEPTED = "accepted: time such as 90s, 10m, 1h30m or 2d; training FLOPs such as 1e15; money such as $5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent: seconds, FLOPs or dollars."""

    kind: Literal["time", "flops", "money"]
    amount: float

    def __str__(self) -> str:
        """Return it as people write it."""
        if self.kind == "time":
            return format_seconds(self.amount)
        return f"${self.amount:,.2f}" if self.kind == "money" else f"{self.amount:.3g} FLOPs"


def parse_budget(text: str) -> Budget:
    """Read `10m`, `1h30m`, `1e15` or `$5`. Raises `SettingsError` for anything else, and for what is not above 0."""
    stripped = text.strip()
    amount: float | None = None
    kind: Literal["time", "flops", "money"] = "time"
    if stripped.startswith("$"):
        kind, amount = "money", _number(stripped[1:].strip())
    elif match := _FLOPS.match(stripped):
        kind, amount = "flops", float(match[1])
    elif stripped and not _TIME.sub("", stripped).strip():
        amount = sum(float(number) * _UNITS[unit] for number, unit in _TIME.findall(stripped))
    if amount is None:
        raise SettingsError(f"--budget: found {text!r}; {ACCEPTED}")
    if not 0 < amount < float("inf"):
        raise SettingsError(f"--budget: found {text!r}, nothing to spend; {ACCEPTED}")
    return Budget(kind=kind, amount=amount)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One size, and what it costs on the machine at hand."""

    name: str
    """As a recipe names it: a number of parameters, or a size of the papers."""
    config: LlamaConfig
    seconds_per_token: float
    other_seconds: float = 0.0
    """What the rest of the recipe takes with a model of this size."""
    sequence_length: int = 256
    fixed_batch: int | None = None
    """Tokens of a step where they are given, as on a cluster, whose split was found for them. Unset: what size and tokens want."""

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.config.num_parameters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to train: an offer with its tokens, the loss that the law expects, and the seconds of pre-training."""

    offer: Offer
    tokens: int
    loss: float
    limited: bool
    """Whether the text ran out before the budget did."""

    @property
    def seconds(self) -> float:
        """Of pre-training."""
        return self.tokens * self.offer.seconds_per_token

    @property
    def flops(self) -> float:
        """6ND."""
        return FLOPS_PER_PARAMETER_AND_TOKEN * self.offer.parameters * self.tokens

    @property
    def tokens_per_parameter(self) -> float:
        """About 20 is Chinchilla's."""
        return self.tokens / self.offer.parameters

    @property
    def batch(self) -> int:
        """Tokens of a step."""
        return self.offer.fixed_batch or step_tokens(self.offer.parameters, self.tokens, self.offer.sequence_length)

    @property
    def lr(self) -> float:
        """Peak learning rate."""
        return peak_lr(self.offer.parameters, self.tokens)


def choose(offers: Sequence[Offer], budget: Budget, law: ParametricLaw, *, max_tokens: float | None = None) -> list[Choice]:
    """Return what each size would be trained on within the budget (seconds or FLOPs), the least expected loss first.

    Raises:
        SettingsError: the budget is too small for any size; says what the least is.
    """
    choices = [_within(offer, budget, law, max_tokens) for offer in offers]
    found = [choice for choice in choices if choice.tokens >= least_tokens(choice.offer) and not _starves(choice)]
    if not found:
        raise SettingsError(f"--budget: {budget} is too little to train anything here: the least is {_least(offers, budget.kind)}")
    return sorted(found, key=lambda choice: (choice.loss, choice.offer.parameters))


def _starves(choice: Choice) -> bool:
    """Say whether there is too little text for the size."""
    return choice.limited and choice.tokens_per_parameter < LEAST_PER_PARAMETER


def least_tokens(offer: Offer) -> int:
    """Return the tokens of the shortest run that is worth the name: `MIN_STEPS` steps of eight rows, or of the batch that is given."""
    return MIN_STEPS * (offer.fixed_batch or 8 * offer.sequence_length)


def step_tokens(parameters: int, tokens: float, sequence_length: int) -> int:
    """Return the tokens of a step: the dial's, less where the run would have too few steps; at least eight rows, a power of two."""
    rows = min(batch_tokens(parameters, sequence_length), tokens / WANTED_STEPS) / sequence_length
    power = max(3, int(log2(max(1.0, rows))))
    return int(2**power) * sequence_length


def peak_lr(parameters: int, tokens: float) -> float:
    """Return the dial's learning rate; for a miniature with few tokens a parameter `FEW_TOKENS_RATE` times it."""
    rate = learning_rate(parameters)
    few = parameters <= DIAL_PARAMETERS and tokens < FEW_TOKENS * parameters
    return float(f"{rate * (FEW_TOKENS_RATE if few else 1.0):.2g}")


def _within(offer: Offer, budget: Budget, law: ParametricLaw, max_tokens: float | None) -> Choice:
    if budget.kind == "flops":
        bought = budget.amount / (FLOPS_PER_PARAMETER_AND_TOKEN * offer.parameters)
    else:
        bought = max(0.0, budget.amount - offer.other_seconds) / offer.seconds_per_token
    limited = max_tokens is not None and bought > max_tokens
    tokens = round_tokens(min(bought, max_tokens) if max_tokens is not None else bought)
    loss = float(law.loss(offer.parameters, tokens)) if tokens else float("inf")
    return Choice(offer=offer, tokens=tokens, loss=loss, limited=limited)


def round_tokens(tokens: float) -> int:
    """Return the tokens with two digits, never more than there are: a recipe is read by people."""
    if tokens < 10:
        return 0
    unit: int = 10 ** (len(str(int(tokens))) - 2)
    return int(tokens // unit) * unit


def _least(offers: Sequence[Offer], kind: str) -> str:
    if kind == "flops":
        return f"{min(FLOPS_PER_PARAMETER_AND_TOKEN * one.parameters * least_tokens(one) for one in offers):.2g} FLOPs"
    seconds = min(one.other_seconds + least_tokens(one) * one.seconds_per_token for one in offers)
    return f"{format_seconds(1.1 * seconds)} ({format_count(min(one.parameters for one in offers))} parameters)"


def seconds_of(budget: Budget, dollars_per_hour: float | None, num_gpus: int = 1) -> Budget:
    """Return money as the time that it rents. Raises `SettingsError` without a price, or with one that is none."""
    if budget.kind != "money":
        return budget
    if dollars_per_hour is None:
        raise SettingsError("--budget: money buys time at a price. Add --gpu and --gpus for rented GPUs, or --price for an hour of this machine")
    if not 0 < dollars_per_hour < float("inf"):
        raise SettingsError(f"--price: found {dollars_per_hour:g}; accepted: dollars an hour above 0")
    return Budget(kind="time", amount=budget.amount / (dollars_per_hour * num_gpus) * 3600)


def compute_optimal_size(flops: float, law: ParametricLaw, *, max_tokens: float | None = None) -> float:
    """Return the parameters that the law alone would give this compute, whatever they cost here."""
    return law.allocate(flops, max_tokens=max_tokens).parameters
