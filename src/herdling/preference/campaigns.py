"""Campaigns as they stand in the database: their settings, guidelines by version, the queue of prompts and the gold items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from herdling.preference.campaign import CampaignConfig
from herdling.preference.database import Database
from herdling.types import Comparison, Dialog


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of rows that were handed in: `set_aside` counts by named reason."""

    added: int
    set_aside: dict[str, int]


class Campaigns:
    """The campaigns of one database."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def put(self, config: CampaignConfig) -> None:
        """Begin a campaign with its first round, or change the settings of one that runs; the same settings again change nothing.

        Raises:
            Refused: "settings stand" (another kind, style or seed), "guidelines version reused" (another text under a version that was used).
        """
        raise NotImplementedError

    def names(self) -> list[str]:
        """Return the names of all campaigns, sorted."""
        raise NotImplementedError

    def config(self, campaign: str) -> CampaignConfig:
        """Return the settings that hold now. Raises `Refused` ("unknown campaign")."""
        raise NotImplementedError

    def add_prompts(self, campaign: str, dialogs: Iterable[Dialog], *, source: str) -> Added:
        """Append prompts to the queue; each dialog ends with a user message. Duplicates of what is queued and unusable ones are set aside and counted."""
        raise NotImplementedError

    def add_gold(self, campaign: str, comparisons: Iterable[Comparison]) -> Added:
        """Add hidden items with a known answer (two responses, a ranking, perhaps a rating). Faulty, of another campaign or known already: set aside, counted."""
        raise NotImplementedError

    def num_waiting(self, campaign: str) -> int:
        """Return how many prompts of the queue were not given to anybody yet."""
        raise NotImplementedError
