"""Comparisons to plain data and back, without loss, and the faults that make one unusable.

The row is our canonical form, one comparison a line of `.jsonl`; other projects' forms are projections of it (`data/comparison_formats.py`). A fault is a
named reason: whoever meets it sets the row aside in a ledger, or refuses it, under that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from herdling.base.errors import DataError
from herdling.base.records import dialog_from_row, dialog_to_row, message_from_row, message_to_row, read_jsonl, write_jsonl
from herdling.types import Campaign, Comparison, Completion, Rating, Sampling, StopReason

RATINGS: tuple[str, ...] = get_args(Rating)
CAMPAIGNS: tuple[str, ...] = get_args(Campaign)
REWARD_MODEL = "reward model"
"""The annotator of a comparison that reward models judged: no person, and no simulated person."""
UNLABELLED = {"safety_labels": "not asked"}
"""Metadata of a comparison judged for safety by people who were not asked whether each response is safe (Anthropic Harmless); else a label is missing."""


def completion_to_row(completion: Completion) -> dict[str, Any]:
    """Return a completion as plain data; what is unknown is left out."""
    row: dict[str, Any] = {"message": message_to_row(completion.message), "stop_reason": completion.stop_reason}
    if completion.sampling is not None:
        row["sampling"] = {item.name: getattr(completion.sampling, item.name) for item in fields(Sampling)} | {"stop": list(completion.sampling.stop)}
    known: dict[str, Any] = {"logprob": completion.logprob, "model": completion.model, "model_fingerprint": completion.model_fingerprint}
    known |= {"token_ids": list(completion.token_ids), "token_logprobs": list(completion.token_logprobs)}
    return row | {name: value for name, value in known.items() if value not in (None, "", [])}


def completion_from_row(row: Mapping[str, Any], where: str) -> Completion:
    """Read a completion. Raises `DataError` naming `where`."""
    message, sampling = row.get("message"), row.get("sampling")
    if not isinstance(message, Mapping):
        raise DataError(f"{where}: no message; found the fields {', '.join(row)}")
    if row.get("stop_reason") not in get_args(StopReason):
        raise DataError(f"{where}: stop_reason is {row.get('stop_reason')!r}, accepted: {', '.join(get_args(StopReason))}")
    return Completion(
        message=message_from_row(message, where),
        stop_reason=row["stop_reason"],
        logprob=row.get("logprob"),
        model=row.get("model", ""),
        model_fingerprint=row.get("model_fingerprint", ""),
        sampling=None if sampling is None else Sampling(**{**sampling, "stop": tuple(sampling.get("stop", ()))}),
        token_ids=tuple(row.get("token_ids", ())),
        token_logprobs=tuple(row.get("token_logprobs", ())),
    )


def comparison_to_row(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data; what is unknown is left out."""
    row: dict[str, Any] = {
        "id": comparison.id,
        "dialog": dialog_to_row(comparison.dialog),
        "responses": [completion_to_row(response) for response in comparison.responses],
        "ranking": list(comparison.ranking),
        "campaign": comparison.campaign,
        "simulated": comparison.simulated,
    }
    safe = None if comparison.safe is None else list(comparison.safe)
    known: dict[str, Any] = {"rating": comparison.rating, "safe": safe, "edited": comparison.edited, "annotator": comparison.annotator}
    known |= {"round": comparison.round, "seconds": comparison.seconds, "metadata": dict(comparison.metadata)}
    return row | {name: value for name, value in known.items() if value not in (None, "", {})}


def comparison_from_row(row: Mapping[str, Any], where: str) -> Comparison:
    """Read a comparison in our own form.

    Raises:
        DataError: naming `where`; a field is missing or of another type, or the comparison has a fault.
    """
    missing = [name for name in ("id", "dialog", "responses", "ranking") if name not in row]
    if missing:
        raise DataError(f"{where}: no field {missing[0]!r}; found {', '.join(row)}")
    safe = row.get("safe")
    comparison = Comparison(
        id=str(row["id"]),
        dialog=dialog_from_row(row["dialog"], where),
        responses=tuple(completion_from_row(response, f"{where}, response {number}") for number, response in enumerate(row["responses"], start=1)),
        ranking=tuple(row["ranking"]),
        rating=row.get("rating"),
        safe=None if safe is None else tuple(safe),
        edited=row.get("edited"),
        campaign=row.get("campaign", "helpfulness"),
        annotator=row.get("annotator", ""),
        simulated=row.get("simulated", False),
        round=row.get("round", ""),
        seconds=row.get("seconds"),
        metadata=row.get("metadata", {}),
    )
    found = fault(comparison)
    if found is not None:
        raise DataError(f"{where}: {found}")
    return comparison


def fault(comparison: Comparison) -> str | None:
    """Return why a comparison cannot be used, or None. The text before the colon names the reason; what follows tells what was found and is accepted."""
    count = len(comparison.responses)
    if count < 2:
        return f"too few responses: found {count}, a comparison has two or more"
    if sorted(comparison.ranking) != list(range(count)):
        return f"ranking is none: found {list(comparison.ranking)}, expected each of 0 to {count - 1} once, the best first"
    if comparison.rating is not None and comparison.rating not in RATINGS:
        return f"rating outside the scale: found {comparison.rating!r}, accepted: {', '.join(RATINGS)}"
    if comparison.campaign not in CAMPAIGNS:
        return f"unknown campaign: found {comparison.campaign!r}, accepted: {', '.join(CAMPAIGNS)}"
    return _fault_of_texts(comparison) or _fault_of_edit(comparison) or _fault_of_safety(comparison)


def _fault_of_texts(comparison: Comparison) -> str | None:
    if not comparison.dialog.messages or comparison.dialog.messages[-1].role not in ("user", "tool"):
        last = comparison.dialog.messages[-1].role if comparison.dialog.messages else "nothing"
        return f"response does not follow its prompt: the dialog ends with {last}, expected a message of the user or of a tool"
    if any(response.message.role != "assistant" for response in comparison.responses):
        return "response is no answer: found a message that is not the assistant's"
    said = [(response.message.content.strip(), response.message.tool_calls) for response in comparison.responses]
    if any(not text and not calls for text, calls in said):
        return "empty response: an answer needs a text or a tool call"
    if comparison.edited is not None and 0 <= comparison.edited < len(said) and len(comparison.judged) >= 1:
        chosen = comparison.judged[0]
        if said[comparison.edited] == said[chosen]:
            return "edit changes nothing: the edited response equals the chosen one"
    if any(said[i] == said[j] for i in range(len(said)) for j in range(i)):
        return "equal responses: two of them have the same text, so there is nothing to prefer"
    return None


def _fault_of_edit(comparison: Comparison) -> str | None:
    if comparison.edited is None:
        return None
    if comparison.edited != comparison.ranking[0] or len(comparison.responses) < 3:
        return "edit out of place: an edit ranks above the chosen and the rejected response (edited > chosen > rejected)"
    return None


def _fault_of_safety(comparison: Comparison) -> str | None:
    if comparison.safe is None:
        asked = comparison.campaign == "safety" and not UNLABELLED.items() <= comparison.metadata.items()
        return "safety label missing: in a safety campaign each response is safe or not" if asked else None
    if len(comparison.safe) != len(comparison.responses):
        return f"safety label missing: found {len(comparison.safe)} for {len(comparison.responses)} responses"
    chosen, rejected = comparison.judged[0], comparison.judged[-1]
    if not comparison.safe[chosen] and comparison.safe[rejected]:
        return "unsafe response chosen: the chosen response is unsafe and the other safe (Llama 2, section 3.2.1 leaves such pairs out)"
    return None


def write_comparisons(folder: Path, split: str, comparisons: Iterable[Comparison]) -> int:
    """Write `comparisons/<split>.jsonl` of an artifact, atomically. Returns how many."""
    return write_jsonl(folder / "comparisons" / f"{split}.jsonl", map(comparison_to_row, comparisons))


def read_comparisons(folder: Path, split: str) -> Iterator[Comparison]:
    """Yield the comparisons of an artifact's split (`train`, `test`). Raises `DataError` naming file and line of a damaged one."""
    path = folder / "comparisons" / f"{split}.jsonl"
    for number, row in read_jsonl(path):
        yield comparison_from_row(row, f"{path}, line {number:,}")
