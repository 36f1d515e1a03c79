"""The settings of a campaign: what is judged, by which guidelines, on answers of which models, and how tasks are dealt.

Llama 2, section 3.2.1: two responses from two different model variants at different temperatures; helpfulness and safety are campaigns of their own with
guidelines of their own. Llama 3, section 4.2.1: models of the round are compared, and the chosen response may be edited.
"""

from __future__ import annotations

import re
from itertools import permutations
from typing import Literal

from herdling.base.artifact import text_fingerprint
from herdling.base.decode import settings
from herdling.base.errors import SettingsError
from herdling.base.seeds import stream, stream_seed
from herdling.types import Campaign

Style = Literal["llama2", "llama3"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@settings
class VariantConfig:
    """A model variant whose answers are compared."""

    model: str
    """A path or `hf:org/name`; with `url`, the name under which that server knows the model."""
    url: str | None = None
    """An OpenAI-compatible server (`http://host:port/v1`) that answers in its stead; none: the model is loaded here."""
    temperatures: tuple[float, ...] = (0.6, 1.0)
    """The temperatures that its answers are drawn at."""
    max_tokens: int = 256
    """The longest answer, in tokens."""


@settings
class CampaignConfig:
    """A campaign. `name`, `kind`, `style` and `seed` stand once it is begun; the rest may change, and every judgement records what held."""

    name: str
    """Lower-case letters, digits, `.`, `_`, `-`."""
    kind: Campaign
    """`helpfulness` or `safety`; in a safety campaign the safety label is required (Llama 2, section 3.2.1)."""
    style: Style = "llama2"
    """`llama3` adds the edit step: edited > chosen > rejected (Llama 3, section 4.2.1)."""
    guidelines: str
    """What annotators are told, as Markdown."""
    guidelines_version: int = 1
    """Raise it with every change of the text."""
    models: dict[str, VariantConfig]
    """Name -> variant. Two are drawn for each prompt; annotators never learn which."""
    own_prompts: bool = True
    """Annotators may write prompts themselves (Llama 2: they always do), not only take them from the queue."""
    overlap: int = 1
    """How many annotators judge the same task. Continued dialogs are for the one who chose how they go on."""
    gold_share: float = 0.05
    """Share of a person's tasks that are hidden gold items: their answer is known."""
    repeat_share: float = 0.05
    """Share of a person's tasks that are hidden repeats of what the same person judged before, sides shuffled anew."""
    max_turns: int = 5
    """How many answers of one dialog may be judged (Llama 2, Table 26: 3.9 turns a dialog on average)."""
    lease_seconds: float = 600.0
    """How long a task is held without a sign of life."""
    test_share: float = 0.1
    """Share of dialogs, by the digest of their opening, that a closed round holds out (Llama 2 held out 1,000 comparisons of each weekly batch)."""
    seed: int = 0
    """Of the named streams that deal tasks, draw variants and shuffle sides."""

    def __post_init__(self) -> None:
        """Check what types cannot. Raises `SettingsError` naming the first setting that does not hold."""
        where = f"campaign {self.name}"
        if not _NAME.fullmatch(self.name):
            raise SettingsError(f"campaign.name: found {self.name!r}, expected lower-case letters, digits, '.', '_' or '-', at most 64")
        if sum(len(variant.temperatures) for variant in self.models.values()) < 2:
            raise SettingsError(f"{where}: models: found one model at one temperature, expected two models, or one at two temperatures")
        for name, variant in self.models.items():
            if not variant.temperatures or min(variant.temperatures) < 0:
                raise SettingsError(f"{where}: models.{name}.temperatures: found {list(variant.temperatures)}, expected one or more numbers from 0 on")
        for setting, low, high in (("gold_share", 0, 0.5), ("repeat_share", 0, 0.5), ("test_share", 0, 0.9), ("overlap", 1, 100), ("max_turns", 1, 100)):
            if not low <= getattr(self, setting) <= high:
                raise SettingsError(f"{where}: {setting}: found {getattr(self, setting)}, expected {low} to {high}")
        if self.lease_seconds <= 0:
            raise SettingsError(f"{where}: lease_seconds: found {self.lease_seconds}, expected more than 0")

    @property
    def guidelines_fingerprint(self) -> str:
        """The digest of the guidelines' text: a version number may be reused by mistake, a digest is not."""
        return text_fingerprint(self.guidelines)


def draw_variants(config: CampaignConfig, *names: str | int) -> tuple[tuple[str, float, int], tuple[str, float, int]]:
    """Draw two different (model name, temperature, sampling seed) from the stream that `names` makes.

    The models differ where there are two or more, and so do the temperatures where any such pair allows it (Llama 2, section 3.2.1).
    """
    points = [(model, temperature) for model, variant in config.models.items() for temperature in dict.fromkeys(variant.temperatures)]
    pairs = list(permutations(points, 2))
    other_model = [(a, b) for a, b in pairs if a[0] != b[0]]
    both_differ = [(a, b) for a, b in other_model if a[1] != b[1]]
    pairs = both_differ or other_model or pairs
    first, second = pairs[int(stream(config.seed, "variants", *names).integers(len(pairs)))]
    # 31 bits: servers behind the OpenAI interface refuse larger seeds.
    seeds = [stream_seed(config.seed, "sampling", *names, place) & 0x7FFFFFFF for place in (0, 1)]
    return (*first, seeds[0]), (*second, seeds[1])
