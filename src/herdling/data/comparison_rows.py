"""Comparisons as rows to train a reward model on: a prompt and its ranked responses in one row, whole comparisons packed together.

What is set aside, and why, stands in the ledger; no comparison is ever cut. Two ways to read a comparison:

- `llama2` (section 3.2.2): the chosen and the rejected response, with the margin of their rating, at all ratings;
- `llama3` (section 4.1.2): all responses, edited > chosen > rejected, no margin, only comparisons rated `significantly` or `better` (or not at all).

`data/comparison_feed.py` deals them out step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from herdling.base.comparison_records import fault
from herdling.base.errors import FormatError
from herdling.base.ledger import Ledger
from herdling.data.shared_rows import SharedPrompt, lay_out, split_prompt
from herdling.types import Batch, Comparison, Dialog, Rating, RewardBatch

if TYPE_CHECKING:
    from herdling.tokenizer.chat_format import ChatFormat, EncodedDialog

ObjectiveName = Literal["llama2", "llama3"]
LLAMA3_RATINGS: tuple[Rating, ...] = ("significantly", "better")
NOT_CLEAR = "rated slightly or negligibly better"
"""Why Llama 3's way sets a comparison aside: by design, so it counts as no harm."""
CUT_BY_CONTEXT = "response cut by the context limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedResponses:
    """One encoded comparison. `ranks` (1 = the best) and `safe` (1, 0, -1 = unknown) are those of `shared.responses`, in their order."""

    shared: SharedPrompt
    ranks: tuple[int, ...]
    margin: float
    safe: tuple[int, ...]

    @property
    def facts(self) -> tuple[object, ...]:
        """What decides, beside the ids, how it is trained on."""
        return self.ranks, self.margin, self.safe

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

    def used_of(comparison: Comparison) -> Sequence[int]:
        return comparison.ranking if objective == "llama3" else (comparison.judged[0], comparison.judged[-1])

    kept = []
    sound = encode_sound(comparisons, chat_format, ledger, context=context, fault_for=lambda one: _fault_for(one, objective), used_of=used_of)
    for comparison, used, encoded in sound:
        safe = tuple(-1 if comparison.safe is None else int(comparison.safe[index]) for index in used)
        margin = margins.get(comparison.rating, 0.0) if comparison.rating is not None and objective == "llama2" else 0.0
        kept.append(RankedResponses(shared=share_prompt(encoded), ranks=tuple(range(1, len(used) + 1)), margin=margin, safe=safe))
        _count(ledger, kept[-1], comparison)
    return kept


def encode_sound(
    comparisons: Iterable[Comparison],
    chat_format: ChatFormat,
    ledger: Ledger,
    *,
    context: int,
    fault_for: Callable[[Comparison], str],
    used_of: Callable[[Comparison], Sequence[int]],
) -> Iterator[tuple[Comparison, Sequence[int], list[EncodedDialog]]]:
    """Yield the comparisons that can be trained on, each with the places of the responses that are used and the encoded dialogs that end with them.

    The others go to the ledger by name: what is wrong with any comparison, what `fault_for` says of this one (`name` or `name: found`), what cannot be encoded.

    Raises:
        FormatError: the exported chat template would write a dialog otherwise than we train it; checked once for each shape of dialog.
    """
    from herdling.tokenizer.chat_format import shape_of

    shapes: set[object] = set()
    for comparison in comparisons:
        ledger.read()
        reason = fault(comparison) or (CUT_BY_CONTEXT if is_cut(comparison) else "") or fault_for(comparison)
        if reason:
            name, _, found = reason.partition(": ")
            ledger.drop(name, f"{comparison.id}: {found or name}")
            continue
        used = used_of(comparison)
        encoded = encode_responses(comparison, used, chat_format, context, ledger)
        if encoded is None:
            continue
        if (shape := shape_of(dialog := answered(comparison, used[0]))) not in shapes:
            chat_format.verify(dialog)  # our ids are those of the exported template, or nothing is trained
            shapes.add(shape)
        yield comparison, used, encoded


def _fault_for(comparison: Comparison, objective: ObjectiveName) -> str:
    """Return why this way of training cannot use a sound comparison, or an empty string."""
    is_clear = objective == "llama2" or comparison.rating is None or comparison.rating in LLAMA3_RATINGS
    return "" if is_clear else NOT_CLEAR


def is_cut(comparison: Comparison) -> bool:
    """Say whether a response broke off because the context was full: what would have followed is unknown."""
    return any(response.stop_reason == "context_full" for response in comparison.responses)


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


def encode_responses(comparison: Comparison, used: Sequence[int], chat_format: ChatFormat, context: int, ledger: Ledger) -> list[EncodedDialog] | None:
    """Encode a comparison's dialog with each of these responses, or set it aside in the ledger: the format cannot say it, or one is longer than the context."""
    try:
        encoded = [encode_answer(answered(comparison, index), chat_format) for index in used]
    except FormatError as error:
        ledger.drop("the chat format cannot express it", f"{comparison.id}: {error}")
        return None
    longest = max(len(one.ids) for one in encoded)
    if longest > context:
        ledger.drop("longer than the context", f"{comparison.id}: {longest:,} tokens, the model has {context:,} positions")
        return None
    return encoded


def answered(comparison: Comparison, index: int) -> Dialog:
    """Return the dialog of a comparison with one of its responses as its last message."""
    dialog = comparison.dialog
    return replace(dialog, messages=(*dialog.messages, comparison.responses[index].message))


def encode_answers(dialogs: Sequence[Dialog], chat_format: ChatFormat) -> SharedPrompt:
    """Encode dialogs that differ in their last message only, the assistant's: each ends with the token that ends the turn.

    Raises:
        FormatError: the chat format cannot express one, or its last message is not the assistant's.
    """
    return share_prompt([encode_answer(dialog, chat_format) for dialog in dialogs])


def encode_answer(dialog: Dialog, chat_format: ChatFormat) -> EncodedDialog:
    """Encode a dialog whose last message is the assistant's. Raises `FormatError` as `encode_answers` does."""
    from herdling.tokenizer.chat_format import TokenRole

    encoded = chat_format.encode(dialog)
    if encoded.roles[-1] != TokenRole.END:
        raise FormatError(f"dialog {dialog.id}: ends with {dialog.messages[-1].role}, expected the answer of the assistant that is to be scored")
    return encoded


def share_prompt(encoded: Sequence[EncodedDialog]) -> SharedPrompt:
    """Return encoded dialogs that differ in their last answer only as one prompt with several responses."""
    return split_prompt([one.ids for one in encoded], min(map(answer_begin, encoded)))


def answer_begin(encoded: EncodedDialog) -> int:
    """Return the place of the first token that the assistant says or calls in the last message: headers before it are prompt."""
    from herdling.tokenizer.chat_format import TokenRole

    last = encoded.message_index[-1]
    own = (message == last and role in (TokenRole.ASSISTANT, TokenRole.END) for message, role in zip(encoded.message_index, encoded.roles, strict=True))
    return next(place for place, is_own in enumerate(own) if is_own)


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
