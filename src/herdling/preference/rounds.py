"""Close a round: freeze its judgements as an artifact of kind `comparisons`, immutable and content-hashed (Llama 2, section 3.2.1: weekly batches).

Closing first stops the round in the database (later judgements are refused), then writes the folder beside and renames it. A kill between the two leaves a
closed round without its folder: closing again writes the same bytes. Not in the data, but counted: gold items, repeats, judgements taken back or set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock

from herdling.base.artifact import MANIFEST, Artifact, is_artifact, new_manifest, read_artifact, remove, write_json_atomic
from herdling.base.comparison_records import write_comparisons
from herdling.base.decode import decode, encode
from herdling.base.errors import LineageError, Refused
from herdling.preference.batch import Batch, batch_of, decide_splits, opening_digest, provenance_of
from herdling.preference.campaign import CampaignConfig
from herdling.preference.campaigns import config_of
from herdling.preference.database import Database, log
from herdling.preference.judged import latest_revisions
from herdling.preference.schema import assignments, guidelines, judgements, prompts, rounds, splits, tasks, users


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A batch of a campaign. `fingerprint` is that of its artifact, once it is frozen."""

    name: str
    campaign: str
    number: int
    opened: float
    closed: float | None
    fingerprint: str | None
    num_judgements: int


def round_name(campaign: str, number: int) -> str:
    """Return the name of a round, which is that of its artifact's folder too."""
    return f"{campaign}-{number:02d}"


class Rounds:
    """The rounds of one database. Each campaign has exactly one open round."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def rounds(self, campaign: str) -> list[Round]:
        """Return the rounds of a campaign, the first first."""
        latest = latest_revisions()
        count = sa.select(sa.func.count()).where(latest.c.round_id == rounds.c.id, latest.c.kind == "judged").correlate(rounds).scalar_subquery()
        with self._database.read() as tx:
            asked = sa.select(rounds, count.label("num_judgements")).where(rounds.c.campaign == campaign).order_by(rounds.c.number)
            return [
                Round(
                    name=round_name(campaign, row.number),
                    campaign=campaign,
                    number=row.number,
                    opened=row.opened,
                    closed=row.closed,
                    fingerprint=row.fingerprint,
                    num_judgements=row.num_judgements,
                )
                for row in tx.execute(asked)
            ]

    def close(self, campaign: str, folder: Path, *, number: int | None = None) -> Artifact:
        """Close a round and return `folder / ROUND` as an artifact. Which one: the given number, else one whose closing was interrupted, else the open one.

        Closing twice is once: a frozen round is verified and returned. The next round is open as soon as this one stops.

        Raises:
            Refused: "unknown round", "unknown campaign".
            DataError: nothing usable was judged in this round; it stays open.
            LineageError: `folder / ROUND` holds something else than this round froze.
        """
        began = self._clock()
        row = self._database.write(lambda tx: _stop(tx, campaign, number, began))
        name = round_name(campaign, row.number)
        target = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            if not (row.fingerprint and is_artifact(target)):
                self._write(row, target, began)
            artifact = read_artifact(target)
            artifact.verify()
            fingerprint = self._database.write(lambda tx: _freeze(tx, row.id, artifact, began))
        if artifact.fingerprint != fingerprint:
            raise LineageError(f"{target}: is not what round {name} froze ({artifact.fingerprint[:12]}, expected {fingerprint[:12]}). Name another folder")
        return artifact

    def _write(self, row: sa.Row[Any], target: Path, began: float) -> None:
        """Write the artifact of a stopped round beside and rename it, unless it stands there already."""
        partial = target.with_name(f".{target.name}.partial")
        remove(partial)
        partial.mkdir()
        with self._database.read() as tx:
            batch = _batch(tx, row.id, target.name, decode(CampaignConfig, row.settings, f"campaign {row.campaign}"))
            decided = _decided(tx, row.campaign)
            texts = {each.version: each.text for each in tx.execute(sa.select(guidelines).where(guidelines.c.campaign == row.campaign))}
        for split in ("train", "test"):
            part = [comparison for comparison in batch.comparisons if decided[opening_digest(comparison.dialog)] == split]
            batch.ledger.count(f"{split} comparisons", write_comparisons(partial, split, part))
        batch.ledger.write(partial / "ledger.json")
        provenance = provenance_of(batch, row, texts)
        write_json_atomic(partial / "provenance.json", provenance)
        models = {f"model {entry['model']} {entry['fingerprint'][:12]}".strip(): entry["fingerprint"] for entry in provenance["models"]}
        made_from = {"kind": "round", "seed": row.settings["seed"], "settings": row.settings, "inputs": models}
        summary = {"comparisons": batch.ledger.kept, "test": batch.ledger.counts["test comparisons"], "annotators": len(provenance["annotators"])}
        seconds = self._clock() - began
        manifest = new_manifest(partial, name=target.name, output="comparisons", made_from=made_from, parents={}, summary=summary, seconds=seconds)
        write_json_atomic(partial / MANIFEST, manifest)
        if target.exists():
            found = read_artifact(target).fingerprint
            remove(partial)
            if found != manifest["fingerprint"]:
                raise LineageError(f"{target}: holds another artifact ({found[:12]}); round {target.name} makes {manifest['fingerprint'][:12]}")
        else:
            partial.rename(target)


def _stop(tx: sa.Connection, campaign: str, number: int | None, now: float) -> sa.Row[Any]:
    """Close a round in the database, decide its held-out dialogs and open the next; one that is closed already is only returned."""
    config = config_of(tx, campaign, lock="deal")
    asked = sa.select(rounds).where(rounds.c.campaign == campaign, rounds.c.fingerprint.is_(None) if number is None else rounds.c.number == number)
    row = tx.execute(asked.order_by(rounds.c.number).limit(1)).one_or_none()
    if row is None:
        raise Refused("unknown round", f"campaign {campaign} has no round {number}")
    if row.closed is not None:
        return row
    batch = _batch(tx, row.id, round_name(campaign, row.number), config)
    batch.ledger.check(1.0)
    known = _decided(tx, campaign)
    digests = {opening_digest(comparison.dialog) for comparison in batch.comparisons}
    new = decide_splits(digests, known, config.test_share)
    if new:
        tx.execute(sa.insert(splits), [{"campaign": campaign, "digest": digest, "split": split} for digest, split in sorted(new.items())])
    tx.execute(sa.update(rounds).where(rounds.c.id == row.id).values(closed=now, settings=encode(config)))
    tx.execute(sa.insert(rounds).values(campaign=campaign, number=row.number + 1, opened=now))
    _let_go(tx, row.id)
    log(tx, now, "round closed", campaign=campaign, round=row.number)
    return tx.execute(sa.select(rounds).where(rounds.c.id == row.id)).one()


def _let_go(tx: sa.Connection, round_id: int) -> None:
    """Take the tasks of a closed round from their holders, and give prompts that nobody judged back to the queue."""
    of_round = sa.select(tasks.c.id).where(tasks.c.round_id == round_id)
    tx.execute(sa.update(assignments).where(assignments.c.task_id.in_(of_round), assignments.c.state == "held").values(state="expired", slot=None))
    judged = sa.select(assignments.c.task_id).where(assignments.c.state == "judged")
    unjudged = sa.and_(prompts.c.task_id.in_(of_round), prompts.c.task_id.not_in(judged))
    tx.execute(sa.update(prompts).where(unjudged).values(task_id=None))


def _freeze(tx: sa.Connection, round_id: int, artifact: Artifact, now: float) -> str:
    """Record the fingerprint of a round's artifact once; return what is recorded."""
    unfrozen = sa.and_(rounds.c.id == round_id, rounds.c.fingerprint.is_(None))
    if tx.execute(sa.update(rounds).where(unfrozen).values(fingerprint=artifact.fingerprint)).rowcount:
        log(tx, now, "round frozen", campaign=artifact.manifest["settings"]["name"], fingerprint=artifact.fingerprint)
    return str(tx.execute(sa.select(rounds.c.fingerprint).where(rounds.c.id == round_id)).scalar_one())


def _decided(tx: sa.Connection, campaign: str) -> dict[str, str]:
    """Return which openings of a campaign are held out, and which are not."""
    return {row.digest: row.split for row in tx.execute(sa.select(splits).where(splits.c.campaign == campaign))}


def _batch(tx: sa.Connection, round_id: int, name: str, config: CampaignConfig) -> Batch:
    # The last revision within the round: what was taken back here and judged anew in a later round stays taken back here.
    latest = latest_revisions(judgements.c.round_id == round_id)
    asked = sa.select(latest.c.task_id, latest.c.user_id, latest.c.revision, latest.c.kind.label("said"), latest.c.judgement, latest.c.left_response)
    asked = asked.add_columns(latest.c.side_seed, latest.c.guidelines_version, latest.c.seconds, latest.c.reason, users.c.pseudonym, tasks)
    asked = asked.join(tasks, tasks.c.id == latest.c.task_id).join(users, users.c.id == latest.c.user_id)
    rows: Iterable[sa.Row[Any]] = tx.execute(asked.order_by(latest.c.task_id, latest.c.user_id))
    return batch_of(rows, name, config)
