"""Campaigns as they stand in the database: their settings, guidelines by version, the queue of prompts and the gold items."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from herdling.base.artifact import value_fingerprint
from herdling.base.comparison_records import comparison_to_row, completion_to_row, fault
from herdling.base.decode import decode, encode
from herdling.base.errors import Refused
from herdling.base.records import dialog_to_row
from herdling.preference.campaign import CampaignConfig
from herdling.preference.database import Database, log
from herdling.preference.schema import campaigns, guidelines, prompts, rounds, tasks
from herdling.types import Comparison, Dialog

DUPLICATE = "duplicate"


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
        now, plain = self._clock(), encode(config)

        def work(tx: sa.Connection) -> None:
            stands = tx.execute(sa.select(campaigns.c.settings).where(campaigns.c.name == config.name).with_for_update(key_share=True)).scalar_one_or_none()
            if stands == plain:
                return
            if stands is None:
                tx.execute(sa.insert(campaigns).values(name=config.name, settings=plain, created=now))
                tx.execute(sa.insert(rounds).values(campaign=config.name, number=1, opened=now))
            else:
                _check_change(stands, plain, config.name)
                tx.execute(sa.update(campaigns).where(campaigns.c.name == config.name).values(settings=plain))
            _put_guidelines(tx, config, now)
            log(tx, now, "settings", campaign=config.name, settings=plain)

        self._database.write(work)

    def names(self) -> list[str]:
        """Return the names of all campaigns, sorted."""
        with self._database.read() as tx:
            return list(tx.execute(sa.select(campaigns.c.name).order_by(campaigns.c.name)).scalars())

    def config(self, campaign: str) -> CampaignConfig:
        """Return the settings that hold now. Raises `Refused` ("unknown campaign")."""
        with self._database.read() as tx:
            return config_of(tx, campaign)

    def add_prompts(self, campaign: str, dialogs: Iterable[Dialog], *, source: str) -> Added:
        """Append prompts to the queue; each dialog ends with a user message. Duplicates of what is queued and unusable ones are set aside and counted."""
        rows, set_aside = [], dict[str, int]()
        for dialog in dialogs:
            if dialog.messages[-1].role != "user" or not dialog.messages[-1].content.strip():
                _count(set_aside, "no prompt: the dialog does not end with a message of the user")
                continue
            plain = dialog_to_row(dialog)
            rows.append({"digest": value_fingerprint({**plain, "id": ""}), "dialog": plain, "source": source[:200]})
        return self._add(campaign, prompts, rows, set_aside, "prompts added", {})

    def add_gold(self, campaign: str, comparisons: Iterable[Comparison]) -> Added:
        """Add hidden items with a known answer (two responses, a ranking, perhaps a rating).

        Faulty ones, those of another campaign's kind and those known already are set aside and counted.
        """
        kind, rows, set_aside = self.config(campaign).kind, [], dict[str, int]()
        for comparison in comparisons:
            found = fault(comparison)
            if found or comparison.campaign != kind or len(comparison.responses) != 2:
                wrong = f"of a {comparison.campaign} campaign" if comparison.campaign != kind else "not two responses"
                _count(set_aside, found.partition(":")[0] if found else wrong)
                continue
            plain = comparison_to_row(comparison)
            gold = {"dialog": plain["dialog"], "responses": [completion_to_row(response) for response in comparison.responses]}
            answer = {"chosen": comparison.ranking[0], "rating": comparison.rating, "safe": comparison.safe and list(comparison.safe)}
            digest = value_fingerprint([{**plain["dialog"], "id": ""}, [response.message.content for response in comparison.responses]])
            rows.append({**gold, "answer": answer, "digest": digest})
        fixed = {"kind": "gold", "source": "gold", "attempt": 0, "complete": True, "created": self._clock()}
        return self._add(campaign, tasks, rows, set_aside, "gold added", fixed)

    def num_waiting(self, campaign: str) -> int:
        """Return how many prompts of the queue were not given to anybody yet."""
        waiting = sa.select(sa.func.count()).select_from(prompts).where(prompts.c.campaign == campaign, prompts.c.task_id.is_(None))
        with self._database.read() as tx:
            return tx.execute(waiting).scalar_one()

    def _add(self, campaign: str, table: sa.Table, rows: list[dict[str, Any]], set_aside: dict[str, int], kind: str, fixed: dict[str, Any]) -> Added:
        """Insert the rows whose digest is new to the campaign, all or none."""

        def work(tx: sa.Connection) -> Added:
            config_of(tx, campaign)
            known = set(tx.execute(sa.select(table.c.digest).where(table.c.campaign == campaign, table.c.digest.is_not(None))).scalars())
            counts, new = dict(set_aside), dict[str, dict[str, Any]]()
            for row in rows:
                if row["digest"] in known or row["digest"] in new:
                    _count(counts, DUPLICATE)
                else:
                    new[row["digest"]] = {**row, **fixed, "campaign": campaign}
            if new:
                tx.execute(sa.insert(table), list(new.values()))
            log(tx, self._clock(), kind, campaign=campaign, added=len(new), set_aside=counts)
            return Added(added=len(new), set_aside=counts)

        return self._database.write(work)


def config_of(tx: sa.Connection, campaign: str, *, lock: str = "") -> CampaignConfig:
    """Read a campaign's settings; `lock` "share" holds off the closing of a round, "deal" other dealers too. Raises `Refused` ("unknown campaign")."""
    found = tx.execute(_SETTINGS[lock], {"campaign": campaign}).scalar_one_or_none()
    if found is None:
        raise Refused("unknown campaign", f"there is no campaign {campaign!r}")
    return _decoded(found, campaign)


# As text: the same text means the same settings, which need not be decoded with every request.
_PLAIN = sa.select(sa.cast(campaigns.c.settings, sa.Text)).where(campaigns.c.name == sa.bindparam("campaign"))
_SETTINGS = {"": _PLAIN, "share": _PLAIN.with_for_update(read=True), "deal": _PLAIN.with_for_update(key_share=True)}


@lru_cache(maxsize=64)
def _decoded(text: str, campaign: str) -> CampaignConfig:
    return decode(CampaignConfig, json.loads(text), f"campaign {campaign}")


def _check_change(stands: dict[str, Any], wanted: dict[str, Any], name: str) -> None:
    for setting in ("kind", "style", "seed"):
        if stands[setting] != wanted[setting]:
            raise Refused("settings stand", f"campaign {name}: {setting} is {stands[setting]!r} and cannot become {wanted[setting]!r}; begin another campaign")


def _put_guidelines(tx: sa.Connection, config: CampaignConfig, now: float) -> None:
    version = sa.and_(guidelines.c.campaign == config.name, guidelines.c.version == config.guidelines_version)
    text = tx.execute(sa.select(guidelines.c.text).where(version)).scalar_one_or_none()
    if text is None:
        tx.execute(sa.insert(guidelines).values(campaign=config.name, version=config.guidelines_version, text=config.guidelines, at=now))
    elif text != config.guidelines:
        raise Refused("guidelines version reused", f"version {config.guidelines_version} had another text; raise guidelines_version")


def _count(counts: dict[str, int], reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1
