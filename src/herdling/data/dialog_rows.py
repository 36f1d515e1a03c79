"""Rows for fine-tuning: encoded dialogs, packed whole into rows (Llama 2, section 3.1: prompts and answers fill the sequence, loss on answers only).

Dialogs are never cut to fit a gap: best-fit packing puts each whole into a row, its last token (end of turn) is the separator, and the mask between documents
keeps neighbours apart. Which predictions are supervised is a question about the roles of tokens: answers (ASSISTANT) and the token that ends them (END); of a
dialog whose last answer alone is to be learned (`Dialog.supervised`), those behind the user's last message. What does not fit a row is dropped or cut short as
the setting says, and counted. Rows are shuffled anew in each epoch by (seed, epoch).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from herdling.base.artifact import value_fingerprint
from herdling.base.errors import DataError, FormatError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream
from herdling.data.batch import make_batch
from herdling.data.packing import pack_best_fit
from herdling.types import Batch, Dialog

if TYPE_CHECKING:
    from herdling.tokenizer.chat_format import ChatFormat

TooLong = Literal["drop", "truncate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedDialogs:
    """Encoded dialogs end to end: `ids` and `trained` (this token is a wanted answer) are `[num_tokens]`, `ends` is `[num_dialogs]`."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    ends: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each dialog begins, `[num_dialogs]`."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])


def encode_dialogs(dialogs: Iterable[Dialog], chat_format: ChatFormat, ledger: Ledger, *, sequence_length: int, too_long: TooLong = "drop") -> EncodedDialogs:
    """Encode dialogs, counting in the ledger: rows in, dropped by reason, truncated, tokens, tokens supervised, answers and ends of turn trained.

    Raises:
        FormatError: the exported chat template would write a dialog otherwise than we train it; checked once for each shape of dialog.
        DataError: no answer's end would be trained, so that the model could never stop.
    """
    from herdling.tokenizer.chat_format import TokenRole, shape_of

    shapes: set[object] = set()
    ids: list[NDArray[np.int32]] = []
    trained: list[NDArray[np.bool_]] = []
    for dialog in dialogs:
        ledger.read()
        try:
            encoded = chat_format.encode(dialog)
        except FormatError as error:
            ledger.drop("the chat format cannot express it", f"{dialog.id}: {error}")
            continue
        if (shape := shape_of(dialog)) not in shapes:
            chat_format.verify(dialog)  # our ids are those of the exported template, or nothing is trained
            shapes.add(shape)
        roles = np.array(encoded.roles[:sequence_length], np.int8)
        first = _first_supervised(dialog)
        behind = np.array(encoded.message_index[:sequence_length], np.int32) >= first
        wanted = ((roles == TokenRole.ASSISTANT) | (roles == TokenRole.END)) & behind
        fault = _fault(len(encoded.ids), wanted, sequence_length, too_long)
        if fault:
            ledger.drop(fault, f"{dialog.id}: {len(encoded.ids):,} tokens, a row holds {sequence_length:,}")
            continue
        ledger.keep()
        ledger.count("truncated", int(len(encoded.ids) > sequence_length))
        ledger.count("tokens", len(roles))
        ledger.count("tokens supervised", int(wanted.sum()))
        ledger.count("answers", sum(message.role == "assistant" for message in dialog.messages[first:]))
        ledger.count("ends of turn trained", int((wanted & (roles == TokenRole.END)).sum()))
        ids.append(np.array(encoded.ids[:sequence_length], np.int32))
        trained.append(wanted)
    if ids and not ledger.counts["ends of turn trained"]:
        raise DataError(f"{ledger.stage}: no end of turn would be trained in {ledger.kept:,} dialogs, so the model would never stop. Use longer rows")
    ends = np.cumsum([len(part) for part in ids], dtype=np.int64)
    return EncodedDialogs(ids=np.concatenate(ids or [np.empty(0, np.int32)]), trained=np.concatenate(trained or [np.empty(0, bool)]), ends=ends)


def _first_supervised(dialog: Dialog) -> int:
    """Return the first message whose answers are trained: the one behind the user's last, where the last answer alone is to be learned."""
    if dialog.supervised == "all":
        return 0
    return max((index + 1 for index, message in enumerate(dialog.messages) if message.role == "user"), default=0)


def _fault(num_tokens: int, wanted: NDArray[np.bool_], sequence_length: int, too_long: TooLong) -> str:
    """Return why a dialog cannot be used, or an empty string. `wanted` is what is left of it in a row."""
    if not wanted.any():
        return "prompt longer than a row" if num_tokens > sequence_length else "fully masked"
    return "longer than a row" if num_tokens > sequence_length and too_long == "drop" else ""


class DialogRows:
    """Packed rows of dialogs over a number of epochs. A `RowSource`; rows `0` to `num_rows / epochs` are the first epoch."""

    def __init__(self, dialogs: EncodedDialogs, *, sequence_length: int, epochs: int, seed: int, pad_id: int = 0) -> None:
        if not len(dialogs.ends):
            raise DataError("no dialog is left to train on")
        self.dialogs = dialogs
        self.sequence_length = sequence_length
        self.pad_id = max(0, pad_id)  # a tokenizer without a pad token says -1; padding is masked, so any id will do
        self.seed = seed
        self._starts = dialogs.starts
        self._lengths = dialogs.ends - self._starts
        self._packed = [np.array(row, np.int64) for row in pack_best_fit(self._lengths, sequence_length)]
        self.rows_per_epoch = len(self._packed)
        self.num_rows = self.rows_per_epoch * epochs
        digest = sha256(dialogs.ids.tobytes() + dialogs.trained.tobytes() + dialogs.ends.tobytes()).hexdigest()
        self.fingerprint = value_fingerprint(["dialog rows", 1, seed, sequence_length, epochs, digest])
        self._order = lru_cache(maxsize=2)(self._shuffle)

    @property
    def fill(self) -> float:
        """Share of positions that hold a token."""
        return len(self.dialogs.ids) / (self.rows_per_epoch * self.sequence_length)

    def rows(self, start: int, count: int) -> Batch:
        """Return rows `start` to `start + count`, `[count, sequence_length]`."""
        numbers = [divmod(row, self.rows_per_epoch) for row in range(start, start + count)]
        packed = [self._packed[self._order(epoch)[index]] for epoch, index in numbers]
        items = np.concatenate(packed)
        lengths = self._lengths[items]
        # Where each dialog begins in the flat batch: its row's first position, then right after its neighbour.
        row_of = np.repeat(np.arange(count), [len(row) for row in packed])
        before = np.cumsum(lengths) - lengths
        first_of_row = np.searchsorted(row_of, np.arange(count))
        begins = row_of * self.sequence_length + before - before[first_of_row][row_of]
        steps = np.arange(lengths.sum()) - np.repeat(before, lengths)
        source, target = np.repeat(self._starts[items], lengths) + steps, np.repeat(begins, lengths) + steps

        size = count * self.sequence_length
        inputs, labels = np.full(size, self.pad_id, np.int64), np.zeros(size, np.int64)
        loss_mask, starts, padding = np.zeros(size, bool), np.zeros(size, bool), np.ones(size, bool)
        inputs[target] = self.dialogs.ids[source]
        padding[target] = False
        starts[begins] = True
        inner = np.flatnonzero(steps)  # a dialog's first token is nobody's label; every other is its left neighbour's
        labels[target[inner] - 1] = self.dialogs.ids[source[inner]]
        loss_mask[target[inner] - 1] = self.dialogs.trained[source[inner]]
        shape = (count, self.sequence_length)
        return make_batch(inputs.reshape(shape), labels.reshape(shape), loss_mask.reshape(shape), starts.reshape(shape), padding.reshape(shape))

    def _shuffle(self, epoch: int) -> NDArray[np.int64]:
        return stream(self.seed, "dialogs", epoch).permutation(self.rows_per_epoch)
