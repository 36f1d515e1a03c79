"""The numbers of a campaign for reviewers and admins: who agrees with whom, with gold and with themselves, how fast, how fair to left and right."""

from __future__ import annotations

from typing import Any

from herdling.preference.database import Database


class Dashboard:
    """Reads the database; changes nothing. Not for annotators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def numbers(self, campaign: str) -> dict[str, Any]:
        """Return the dashboard as plain data: counts, and `agreement.summary` of the campaign, of each annotator and of each round."""
        raise NotImplementedError
