"""The answers of one iteration as packed rows to train on, and as a file, so that an iteration that was interrupted goes on with the very same ones.

A document is a prompt with its answer; documents are packed whole, best fit. A prediction is supervised where its label is a token of the answer. A file is one
`.npz`, written beside and renamed: about 30 bytes a token.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from herdling.base.artifact import write_bytes_atomic
from herdling.base.errors import CheckpointError
from herdling.data.batch import make_batch
from herdling.data.packing import pack_best_fit
from herdling.train.experience import Experience, Targets
from herdling.train.ppo_loss import PpoBatch
from herdling.types import Batch, Rollout

_TOKEN_FIELDS = ("prompt_ids", "response_ids", "logprobs")
_PLAIN_FIELDS = ("text", "ended", "reward", "helpfulness", "safety")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRollouts:
    """Answers in rows. Token j of answer n is predicted at row `rows[n]`, position `firsts[n] + j`; one position behind its last such place it ends."""

    batch: Batch
    rows: Tensor
    firsts: Tensor
    lengths: Tensor
    """Tokens of each answer; the three are int64 `[N]`."""

    def gather(self, tensor: Tensor, width: int, *, behind: int = 0) -> Tensor:
        """Return what stands where each answer's tokens are predicted, and at `behind` more positions: `[B, T]` to `[N, width]`, 0 elsewhere."""
        rows, columns, mask = self._places(width, self.lengths + behind)
        return torch.where(mask, tensor[rows, columns.clamp(max=tensor.shape[1] - 1)], 0.0)

    def scatter(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return values `[N, W]` where the mask has them in their places of the rows, `[B, T]`; 0 elsewhere."""
        rows, columns, _ = self._places(values.shape[1], self.lengths)
        placed = torch.zeros(self.batch.input_ids.shape, dtype=torch.float32)
        placed[rows.expand_as(columns)[mask], columns[mask]] = values[mask].float()
        return placed

    def _places(self, width: int, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps = torch.arange(width)
        return self.rows[:, None], self.firsts[:, None] + steps, steps < lengths[:, None]


def pack_rollouts(rollouts: Sequence[Rollout], row_length: int, pad_id: int) -> PackedRollouts:
    """Pack prompts with their answers into as few rows as best fit finds."""
    documents = [(*one.prompt_ids, *one.response_ids) for one in rollouts]
    packed = pack_best_fit(np.array([len(document) for document in documents], np.int64), row_length)
    inputs = np.full((len(packed), row_length), max(0, pad_id), np.int64)
    labels, supervised = np.zeros_like(inputs), np.zeros(inputs.shape, bool)
    starts, padding = np.zeros(inputs.shape, bool), np.ones(inputs.shape, bool)
    places = np.zeros((len(rollouts), 2), np.int64)
    for row, members in enumerate(packed):
        at = 0
        for number in members:
            document, first = documents[number], at + len(rollouts[number].prompt_ids) - 1
            end = at + len(document)
            inputs[row, at:end], padding[row, at:end], starts[row, at] = document, False, True
            labels[row, first : end - 1], supervised[row, first : end - 1] = document[first - at + 1 :], True
            places[number] = row, first
            at = end
    rows, firsts = torch.from_numpy(places).unbind(1)
    lengths = torch.tensor([len(one.response_ids) for one in rollouts])
    return PackedRollouts(batch=make_batch(inputs, labels, supervised, starts, padding), rows=rows, firsts=firsts, lengths=lengths)


def ppo_batch(packed: PackedRollouts, experience: Experience, targets: Targets, chosen: Tensor, *, untouched: bool) -> PpoBatch:
    """Return the rows of these answers (`chosen`, int64) with what PPO's loss needs; `packed` holds the same answers in the same order."""
    width = targets.advantages.shape[1]
    tokens, learned = torch.arange(width) < packed.lengths[:, None], targets.value_mask[chosen]
    old_logprobs = torch.zeros(len(chosen), width)
    old_logprobs[:, :-1] = experience.logprobs[chosen]
    # The loop divides both losses by the number of tokens; where the critic learns at more positions (TRL), its own mean is over those.
    weight = float(tokens.sum()) / float(learned.sum())
    return PpoBatch(
        **{field.name: getattr(packed.batch, field.name) for field in fields(Batch)},
        old_logprobs=packed.scatter(old_logprobs, tokens),
        advantages=packed.scatter(targets.advantages[chosen], tokens),
        old_values=packed.scatter(experience.values[chosen], learned),
        returns=packed.scatter(targets.returns[chosen], learned),
        value_weights=packed.scatter(learned * weight, learned),
        untouched=untouched,
    )


def write_experience(path: Path, experience: Experience, facts: Mapping[str, Any]) -> None:
    """Write an iteration's answers, with what the models said of them, and plain facts."""
    rollouts = experience.rollouts
    plain = {"facts": dict(facts), "rollouts": [{name: getattr(one, name) for name in _PLAIN_FIELDS} for one in rollouts]}
    arrays: dict[str, Any] = {"plain": np.frombuffer(json.dumps(plain).encode(), np.uint8)}
    for name in _TOKEN_FIELDS:
        values = [getattr(one, name) for one in rollouts]
        arrays[name] = np.array([value for one in values for value in one], np.float64 if name == "logprobs" else np.int64)
        arrays[f"{name}_lengths"] = np.array([len(one) for one in values])
    arrays |= {f"model_{name}": getattr(experience, name).numpy() for name in ("logprobs", "reference", "values")}
    held = io.BytesIO()
    np.savez(held, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, held.getvalue())


def read_experience(path: Path) -> tuple[Experience, dict[str, Any]]:
    """Read them back, with the facts. Raises `CheckpointError` for a file that is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            plain = json.loads(arrays["plain"].tobytes())
            parts = {name: np.split(arrays[name], np.cumsum(arrays[f"{name}_lengths"])[:-1]) for name in _TOKEN_FIELDS}
            tensors = {name: torch.from_numpy(arrays[f"model_{name}"]) for name in ("logprobs", "reference", "values")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: is damaged ({error}). Remove it and the folder `checkpoints` of this stage to train from the start") from None
    rollouts = []
    for number, row in enumerate(plain["rollouts"]):
        tokens: dict[str, Any] = {name: tuple(values[number].tolist()) for name, values in parts.items()}
        rollouts.append(Rollout(**tokens, **row))
    return Experience(rollouts=rollouts, **tensors), plain["facts"]
