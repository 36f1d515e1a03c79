"""Comparisons as rows to train a reward model on: a prompt and its ranked responses in one row, whole comparisons packed together.

What is set aside, and why, stands in the ledger; no comparison is ever cut. Two ways to read a comparison:

- `llama2` (section 3.2.2): the chosen and the rejected response, with the margin of their rating, at all ratings;
- `llama3` (section 4.1.2): all responses, edited > chosen > rejected, no margin, only comparisons rated `significantly` or `better` (or not at all).

Every step has exactly `batch_pairs` comparisons (the last one what is left), in as many rows as they need. The order of the comparisons, and of the responses
in a row, is drawn anew in each epoch from named streams, so a step is a pure function of its number. Holds all ids in memory: 4 bytes a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from herdling.base.artifact import value_fingerprint
from herdling.base.comparison_records import fault
from herdling.base.errors import DataError, FormatError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream
from herdling.data.shared_rows import SharedPrompt, lay_out, row_length_for, split_prompt
from herdling.types import Batch, Comparison, Dialog, Rating, RewardBatch

if TYPE_CHECKING:
    from herdling.tokenizer.chat_format import ChatFormat

ObjectiveName = Literal["llama2", "llama3"]
LLAMA3_RATINGS = ("significantly", "better")
NOT_CLEAR = "rated slightly or negligibly better"
"""Why Llama 3's way sets a comparison aside: by design, so it counts as no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedResponses:
    """One encoded comparison. `ranks` (1 = the best) and `safe` (1, 0, -1 = unknown) are those of `shared.responses`, in their order."""

    shared: SharedPrompt
    ranks: tuple[int, ...]
    margin: float
    safe: tuple[int, ...]

    def ordered(self, order: Sequence[int]) -> RankedResponses:
        """Return the same with the responses in another order."""
        responses = tuple(self.shared.responses[index] for index in order)
        ranks, safe = tuple(self.ranks[index] for index in order), tuple(self.safe[index] for index in order)
        return replace(self, shared=replace(self.shared, responses=responses), ranks=ranks, safe=safe)


def encode_comparisons(
    comparisons: Iterable[Comparison], chat_format: ChatFormat, ledger: Ledger, *, context: int, objective: ObjectiveName, margins: Mapping[Rating, float]
) -> list[RankedResponses]:
    """Encode comparisons, counting in the ledger: rows in, set aside by reason, responses, pairs, tokens (prompts once) and how many that saved.

    `context` is the most tokens that a prompt with one response may have: the model's positions. `margins` gives a rating its margin; no rating, no margin.

    Raises:
        FormatError: the exported chat template would write a dialog otherwise than we train it; checked once for each shape of dialog.
    """
    from herdling.tokenizer.chat_format import shape_of

    shapes: set[object] = set()
    kept = []
    for comparison in comparisons:
        ledger.read()
        reason = fault(comparison) or _fault_for(comparison, objective)
        if reason:
            name, _, found = reason.partition(": ")
            ledger.drop(name, f"{comparison.id}: {found or name}")
            continue
        used = comparison.ranking if objective == "llama3" else (comparison.judged[0], comparison.judged[-1])
        shared = encode_responses(comparison, used, chat_format, context, ledger)
        if shared is None:
            continue
        if (shape := shape_of(dialog := answered(comparison, used[0]))) not in shapes:
            chat_format.verify(dialog)  # our ids are those of the exported template, or nothing is trained
            shapes.add(shape)
        safe = tuple(-1 if comparison.safe is None else int(comparison.safe[index]) for index in used)
        margin = margins.get(comparison.rating, 0.0) if comparison.rating is not None and objective == "llama2" else 0.0
        kept.append(RankedResponses(shared=shared, ranks=tuple(range(1, len(used) + 1)), margin=margin, safe=safe))
        _count(ledger, kept[-1], comparison)
    return kept


def _fault_for(comparison: Comparison, objective: ObjectiveName) -> str:
    """Return why this way of training cannot use a sound comparison, or an empty string."""
    if any(response.stop_reason == "context_full" for response in comparison.responses):
        return "response cut by the context limit"
    if objective == "llama3" and comparison.rating is not None and comparison.rating not in LLAMA3_RATINGS:
        return NOT_CLEAR
    return ""


def _count(ledger: Ledger, encoded: RankedResponses, comparison: Comparison) -> None:
    count = len(encoded.ranks)
    ledger.keep()
    ledger.count("responses", count)
    ledger.count("pairs", count * (count - 1) // 2)
    ledger.count("tokens", encoded.shared.length)
    ledger.count("tokens of prompts that were not repeated", (count - 1) * len(encoded.shared.prompt))
    ledger.count("without a rating", int(comparison.rating is None))
    ledger.count("responses with a safety label", sum(label >= 0 for label in encoded.safe))
    ledger.count("responses cut at max_tokens", sum(response.stop_reason == "max_tokens" for response in comparison.responses))


def encode_responses(comparison: Comparison, used: Sequence[int], chat_format: ChatFormat, context: int, ledger: Ledger) -> SharedPrompt | None:
    """Encode a comparison's dialog with these of its responses, or set it aside in the ledger: the format cannot say it, or it is longer than the context."""
    try:
        shared = encode_answers([answered(comparison, index) for index in used], chat_format)
    except FormatError as error:
        ledger.drop("the chat format cannot express it", f"{comparison.id}: {error}")
        return None
    if shared.longest > context:
        ledger.drop("longer than the context", f"{comparison.id}: {shared.longest:,} tokens, the model has {context:,} positions")
        return None
    return shared


def answered(comparison: Comparison, index: int) -> Dialog:
    """Return the dialog of a comparison with one of its responses as its last message."""
    dialog = comparison.dialog
    return replace(dialog, messages=(*dialog.messages, comparison.responses[index].message))


def encode_answers(dialogs: Sequence[Dialog], chat_format: ChatFormat) -> SharedPrompt:
    """Encode dialogs that differ in their last message only, the assistant's: each ends with the token that ends the turn.

    Raises:
        FormatError: the chat format cannot express one, or its last message is not the assistant's.
    """
    from herdling.tokenizer.chat_format import TokenRole

    encoded, begins = [], []
    for dialog in dialogs:
        found = chat_format.encode(dialog)
        if found.roles[-1] != TokenRole.END:
            raise FormatError(f"dialog {dialog.id}: ends with {dialog.messages[-1].role}, expected the answer of the assistant that is to be scored")
        encoded.append(found.ids)
        last = len(dialog.messages) - 1
        own = (message == last and role in (TokenRole.ASSISTANT, TokenRole.END) for message, role in zip(found.message_index, found.roles, strict=True))
        begins.append(next(place for place, is_own in enumerate(own) if is_own))
    return split_prompt(encoded, min(begins))


class ComparisonFeed:
    """A `Feed` over encoded comparisons for a number of epochs: for each step `batch_pairs` of them, in rows of one length."""

    def __init__(self, comparisons: Sequence[RankedResponses], *, batch_pairs: int, epochs: int, seed: int, hidden_size: int, pad_id: int = 0) -> None:
        if not comparisons:
            raise DataError("no comparison is left to train on")
        self.comparisons = comparisons
        self.batch_pairs, self.seed, self.pad_id = batch_pairs, seed, pad_id
        # May be more than the model's context, which bounds a prompt with one response.
        self.row_length = row_length_for([one.shared.length for one in comparisons], batch_pairs, hidden_size)
        self.num_comparisons = len(comparisons) * epochs
        self.num_steps = -(-self.num_comparisons // batch_pairs)
        self.num_tokens = sum(one.shared.length for one in comparisons) * epochs
        digest = sha256()
        for one in comparisons:
            for part in (one.shared.prompt, *one.shared.responses):
                digest.update(part.tobytes() + b"|")
            digest.update(repr((one.ranks, one.margin, one.safe)).encode())
        parts = ["comparison rows", 1, seed, batch_pairs, epochs, self.row_length, digest.hexdigest()]
        self.fingerprint = value_fingerprint(parts)
        self._order = lru_cache(maxsize=2)(self._shuffle)

    def batches(self, step: int) -> Iterator[RewardBatch]:
        """Yield the batch of this step (from 0), then of each following one."""
        for number in range(step, self.num_steps):
            first = number * self.batch_pairs
            yield self._batch(range(first, min(first + self.batch_pairs, self.num_comparisons)))

    def _batch(self, positions: range) -> RewardBatch:
        chosen = []
        for epoch, place in (divmod(position, len(self.comparisons)) for position in positions):
            number = int(self._order(epoch)[place])
            one = self.comparisons[number]
            chosen.append(one.ordered(stream(self.seed, "responses", epoch, number).permutation(len(one.ranks)).tolist()))
        return reward_batch(chosen, self.row_length, self.pad_id)

    def _shuffle(self, epoch: int) -> NDArray[np.int64]:
        return stream(self.seed, "comparisons", epoch).permutation(len(self.comparisons))


def reward_batch(comparisons: Sequence[RankedResponses], length: int, pad_id: int) -> RewardBatch:
    """Pack comparisons into rows of `length`; ranks, margins and safety labels stand at the token that ends each response, never one early."""
    import torch

    batch, ends = lay_out([one.shared for one in comparisons], length, pad_id)
    ranks, margins = torch.zeros_like(batch.input_ids), torch.zeros(batch.input_ids.shape, dtype=torch.float32)
    safe = torch.full_like(batch.input_ids, -1)
    rows, columns = torch.from_numpy(ends).unbind(1)
    ranks[rows, columns] = torch.tensor([rank for one in comparisons for rank in one.ranks])
    margins[rows, columns] = torch.tensor([one.margin for one in comparisons for _ in one.ranks], dtype=torch.float32)
    safe[rows, columns] = torch.tensor([label for one in comparisons for label in one.safe])
    return RewardBatch(**{field.name: getattr(batch, field.name) for field in fields(Batch)}, ranks=ranks, margins=margins, safe=safe)
