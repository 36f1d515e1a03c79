"""What a model says of responses to prompts: their log-probabilities, and those of a frozen reference computed once and kept on disk.

A frozen reference says the same in every step, so it is asked before training and then forgotten: one model in memory, not two. Layout, in a folder of the
stage's, in chunks, so that an interruption costs one chunk:

    made_from.json     fingerprints of the reference and of the comparisons: log-probabilities of another reference are refused
    00000.json, ...    for each comparison the log-probability of each response
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import CheckpointError, Stopped
from herdling.base.progress import Progress
from herdling.data.preference_rows import PreferredResponses, preference_rows
from herdling.train.dpo_loss import response_logprobs
from herdling.train.forward import Score
from herdling.train.loop import micro_batches, to_device

CHUNK = 256
"""Comparisons in a chunk."""
MADE_FROM = "made_from.json"


def with_frozen_reference(
    comparisons: Sequence[PreferredResponses],
    load_score: Callable[[], Score],
    *,
    folder: Path,
    made_from: Mapping[str, str],
    device: torch.device,
    micro_batch_tokens: int,
    progress: Progress,
    stop_requested: Callable[[], bool],
) -> list[PreferredResponses]:
    """Return the comparisons with the reference's log-probabilities; `load_score` is called when a chunk is missing. `made_from` is what must not change.

    Raises:
        CheckpointError: the folder holds those of another reference or of other comparisons.
        Stopped: the user asked to stop; finished chunks are on disk.
    """
    _check(folder, made_from)
    score: Score | None = None
    found: list[list[float]] = []
    progress.begin(len(comparisons), "comparisons (reference)")
    for number, start in enumerate(range(0, len(comparisons), CHUNK)):
        path = folder / f"{number:05d}.json"
        if not path.is_file():
            if stop_requested():
                raise Stopped(f"{folder}: stopped after {start:,} of {len(comparisons):,} comparisons; the same command goes on")
            score = score or load_score()
            _record(folder, made_from)
            write_json_atomic(path, score_responses(comparisons[start : start + CHUNK], score, device=device, micro_batch_tokens=micro_batch_tokens))
        found += json.loads(path.read_text(encoding="utf-8"))
        progress.update(len(found))
    return [replace(one, reference=tuple(logprobs)) for one, logprobs in zip(comparisons, found, strict=True)]


def _check(folder: Path, made_from: Mapping[str, str]) -> None:
    """Compare what the log-probabilities on disk are made from, if there are any, with what they would be made from now."""
    path = folder / MADE_FROM
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else made_from
    for name, value in made_from.items():
        if held.get(name) != value:
            raise CheckpointError(
                f"{folder}: holds log-probabilities with another {name} ({str(held.get(name))[:12]}, now {value[:12]})."
                f" Training began against those: go on with the same {name}, or remove {folder.parent} to begin again"
            )


def _record(folder: Path, made_from: Mapping[str, str]) -> None:
    """Write what the log-probabilities are made from, before the first of them."""
    if not (folder / MADE_FROM).is_file():
        folder.mkdir(exist_ok=True)
        write_json_atomic(folder / MADE_FROM, dict(made_from))


@torch.no_grad()
def score_responses(comparisons: Sequence[PreferredResponses], score: Score, *, device: torch.device, micro_batch_tokens: int) -> list[list[float]]:
    """Return the log-probability of each response of each comparison, over its scored tokens, in nats."""
    length = max(one.shared.length for one in comparisons)
    batch, ends = preference_rows(comparisons, length, pad_id=0)
    placed = torch.zeros(batch.ranks.shape)
    first = 0
    for part in micro_batches(batch, micro_batch_tokens):
        part = to_device(part, device)
        rows = placed[first : first + len(part.input_ids)]
        rows[(part.ranks > 0).cpu()] = response_logprobs(score(part).logprobs, part).cpu()
        first += len(rows)
    found = iter(placed[tuple(torch.from_numpy(ends).unbind(1))].tolist())
    return [[next(found) for _ in one.ranks] for one in comparisons]
