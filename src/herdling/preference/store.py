"""The store of people's preferences: one door to one database.

    store = Store("sqlite:///runs/team/preferences.db")          # or postgresql://user@host/name
    store.campaigns.put(config)
    held = store.tasks.next("helpful", user.id)                  # sample held.draws, store.tasks.fill(...)
    store.judgements.submit(held.task, user.id, held.lease, Judgement(side="left", rating="better"), key=key)
    store.rounds.close("helpful", folder)                        # an artifact of kind "comparisons"

All methods are safe to call from many threads and processes at once, block on the database, and either happen whole or not at all. What cannot be accepted is
`Refused`, with a named `reason`; nothing that was stored changes then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from herdling.preference.accounts import Accounts
from herdling.preference.campaigns import Campaigns
from herdling.preference.dashboard import Dashboard
from herdling.preference.database import Database
from herdling.preference.judgements import Judgements
from herdling.preference.review import Reviews
from herdling.preference.rounds import Rounds
from herdling.preference.tasks import Tasks


class Store:
    """Opens a database by URL, brings its tables up to date, and bundles what can be done there."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        """Open `sqlite:///PATH` (made if absent) or `postgresql://...`.

        Raises:
            SettingsError: another kind of URL.
            StorageError: the database cannot be reached, or was written by a newer herdling.
            MissingExtraError: a library of the extra `serve` (or `postgres`) is not installed.
        """
        self._database = Database(url)
        self.accounts = Accounts(self._database, clock)
        self.campaigns = Campaigns(self._database, clock)
        self.tasks = Tasks(self._database, clock)
        self.judgements = Judgements(self._database, clock)
        self.reviews = Reviews(self._database, clock)
        self.rounds = Rounds(self._database, clock)
        self.dashboard = Dashboard(self._database)

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()
