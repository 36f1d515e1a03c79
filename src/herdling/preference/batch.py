"""What a closed round holds: usable comparisons, the ledger of all others, which dialogs are held out, and where everything came from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import sqlalchemy as sa

from herdling.base.artifact import text_fingerprint
from herdling.base.comparison_records import fault
from herdling.base.ledger import Ledger
from herdling.preference.agreement import krippendorff_alpha, prefers_first, share
from herdling.preference.campaign import CampaignConfig
from herdling.preference.judged import Judgement, comparison_of, place_of
from herdling.types import Comparison, Dialog

_LEFT_OUT = {"undone": "taken back", "set aside": "set aside on review"}
_HIDDEN = {"gold": "hidden gold item", "repeat": "hidden repeat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The comparisons of a round in the order of their tasks, and the ledger of all that was judged."""

    comparisons: list[Comparison]
    ledger: Ledger
    places: list[list[int]]
    """Of each task that several people judged: where each stands on the line from its first response (1) to its second (8)."""


def batch_of(rows: Iterable[sa.Row[Any]], name: str, config: CampaignConfig) -> Batch:
    """Turn the last revision of each judgement of a round, beside its task, into comparisons; what is no data is counted by its reason."""
    ledger, comparisons, places = Ledger(f"round {name}"), list[Comparison](), list[int]()
    for row in rows:
        ledger.read()
        left_out = _LEFT_OUT.get(row.said) or _HIDDEN.get(row.kind)
        if left_out:
            ledger.drop(left_out, f"task {row.task_id}: {row.reason}" if row.reason else "")
            if row.reason:
                ledger.count(f"{left_out}: {row.reason}")
            continue
        metadata = {"guidelines_version": row.guidelines_version, "prompt_source": row.source, "side_seed": row.side_seed, "revision": row.revision}
        metadata |= {"task": row.task_id} | ({"continues": row.parent_id} if row.parent_id else {})
        comparison = comparison_of(
            row,
            Judgement(**row.judgement),
            left=row.left_response,
            campaign=config.kind,
            annotator=row.pseudonym,
            round_name=name,
            seconds=row.seconds,
            metadata=metadata,
        )
        found = fault(comparison)
        if found:
            ledger.drop(found.partition(":")[0], f"{comparison.id}: {found}")
            continue
        ledger.keep()
        comparisons.append(comparison)
        places.append(place_of(row))
    return _with_agreement(comparisons, places, ledger)


def _with_agreement(comparisons: list[Comparison], places: list[int], ledger: Ledger) -> Batch:
    """Say of each judgement of a task that several people judged how many they are and how many chose the same response.

    All judgements stay, none is merged into a majority: which pairs people doubt is what a reward model has to learn, and a majority can be formed from what is
    here at any time, but not taken apart again.
    """
    given: dict[int, list[int]] = defaultdict(list)
    for comparison, place in zip(comparisons, places, strict=True):
        given[comparison.metadata["task"]].append(place)
    told = []
    for comparison, place in zip(comparisons, places, strict=True):
        others = given[comparison.metadata["task"]]
        same = sum(prefers_first(other) == prefers_first(place) for other in others)
        agreement = {"agreement": {"judgements": len(others), "same_choice": same}} if len(others) > 1 else {}
        told.append(replace(comparison, metadata={**comparison.metadata, **agreement}))
    return Batch(comparisons=told, ledger=ledger, places=[several for several in given.values() if len(several) > 1])


def opening_digest(dialog: Dialog) -> str:
    """Return the digest of a dialog's first user message: all turns of a dialog, and all dialogs of one prompt, fall on the same side."""
    return text_fingerprint(next(message.content for message in dialog.messages if message.role == "user").strip())


def decide_splits(digests: Set[str], known: Mapping[str, str], share: float) -> dict[str, str]:
    """Return train or test for each opening that has no decision yet: test where its digest falls within the share.

    A first decision stands in all later rounds. Where chance would leave a side of the round empty, the lowest (or highest) new digest goes there.
    """
    new = sorted(digests - known.keys())
    decided = {digest: "test" if int(digest[:16], 16) < share * 2**64 else "train" for digest in new}
    sides = {known[digest] for digest in digests if digest in known} | set(decided.values())
    if share > 0 and len(digests) > 1 and new:
        if "test" not in sides:
            decided[new[0]] = "test"
        elif "train" not in sides:
            decided[new[-1]] = "train"
    return decided


def provenance_of(batch: Batch, row: sa.Row[Any], guidelines: Mapping[int, str]) -> dict[str, Any]:
    """Return where a round's comparisons came from: models, temperatures, guidelines, annotators (pseudonyms), each with its count, and how far
    those agree who judged the same task. `row` is the round's."""
    responses = [response for comparison in batch.comparisons for index, response in enumerate(comparison.responses) if index != comparison.edited]
    models = Counter((response.model, response.model_fingerprint, response.sampling.temperature if response.sampling else None) for response in responses)
    versions = Counter(comparison.metadata["guidelines_version"] for comparison in batch.comparisons)
    pairs = [pair for places in batch.places for pair in combinations(places, 2)]
    same = sum(prefers_first(one) == prefers_first(other) for one, other in pairs)
    return {
        "campaign": row.campaign,
        "kind": row.settings["kind"],
        "style": row.settings["style"],
        "round": row.number,
        "opened": row.opened,
        "closed": row.closed,
        "simulated": False,
        "models": [
            {"model": model, "fingerprint": fingerprint, "temperature": temperature, "responses": count}
            for (model, fingerprint, temperature), count in sorted(models.items(), key=str)
        ],
        "guidelines": [
            {"version": version, "fingerprint": text_fingerprint(guidelines[version]), "comparisons": count, "text": guidelines[version]}
            for version, count in sorted(versions.items())
        ],
        "agreement": {"tasks": len(batch.places), "same_choice": share(same, len(pairs)), "alpha": krippendorff_alpha(batch.places)},
        "annotators": dict(sorted(Counter(comparison.annotator for comparison in batch.comparisons).items())),
        "prompt_sources": dict(sorted(Counter(comparison.metadata["prompt_source"] for comparison in batch.comparisons).items())),
        "settings": row.settings,
    }
