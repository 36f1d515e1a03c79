"""Comparisons as rows for DPO: a prompt and the responses to it in one row, each with the log-probability that a policy gives it (Llama 3, section 4.1.4).

The last token of a prompt predicts the first token of every response, but a position has one label. So what is shared ends one token before, and that last
token stands at the head of each response, where it predicts that response's first token. The log-probability of a response is then that of a row of its own.

Only the last answer of a dialog is scored, whatever was said before. Its header belongs to the prompt, which both responses share, so it never counts; whether
the token that ends the turn does is the question of `Formatting`. What is set aside, and why, stands in the ledger; no response is ever cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from herdling.base.ledger import Ledger
from herdling.data.comparison_rows import LLAMA3_RATINGS, encode_sound, share_prompt
from herdling.data.shared_rows import SharedPrompt, lay_out
from herdling.types import Batch, Comparison, PreferenceBatch, Rating, StopReason

if TYPE_CHECKING:
    from herdling.tokenizer.chat_format import ChatFormat, EncodedDialog

Formatting = Literal["masked", "nll", "trained"]
"""Where the token that ends a response counts: in no term of the loss, in the NLL term alone, or in both."""
NllNorm = Literal["sequence", "batch", "sum"]
"""What the NLL term is per: token of each chosen response, token of all chosen responses of a step, or nothing."""
Pairing = Literal["ends", "all"]
"""Which pairs a comparison of three makes: best over worst, or each above each below it."""
NOT_ASKED = "rating not asked for"
"""Why a comparison is set aside by its rating: by design, so it counts as no harm."""
ENDED: tuple[StopReason, ...] = ("end_of_turn", "end_of_message", "end_of_text")
"""Why a response stopped that was ended by its author; all others broke off."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferredResponses:
    """One encoded comparison. Everything but `shared` is in the order of `shared.responses`, each of which begins with the prompt's last token.

    The masks are over the tokens behind that one: `scored` makes the log-probability that the preference is about, `told` the NLL term.
    """

    shared: SharedPrompt
    ranks: tuple[int, ...]
    scored: tuple[Mask, ...]
    told: tuple[Mask, ...]
    reference: tuple[float, ...]
    """Log-probability of each response under the reference model; 0 until it is known."""

    @property
    def wins(self) -> tuple[int, ...]:
        """How many others each response is preferred to."""
        return tuple(sum(other > rank for other in self.ranks) for rank in self.ranks)

    @property
    def facts(self) -> tuple[object, ...]:
        """What decides, beside the ids, how it is trained on. The reference has a fingerprint of its own."""
        return self.ranks, *(mask.tobytes() for mask in (*self.scored, *self.told))

    def ordered(self, order: Sequence[int]) -> PreferredResponses:
        """Return the same with the responses in another order."""
        return PreferredResponses(
            shared=replace(self.shared, responses=tuple(self.shared.responses[index] for index in order)),
            ranks=tuple(self.ranks[index] for index in order),
            scored=tuple(self.scored[index] for index in order),
            told=tuple(self.told[index] for index in order),
            reference=tuple(self.reference[index] for index in order),
        )


def encode_preferences(
    comparisons: Iterable[Comparison],
    chat_format: ChatFormat,
    ledger: Ledger,
    *,
    context: int,
    ratings: Collection[Rating] = LLAMA3_RATINGS,
    pairing: Pairing = "ends",
    formatting: Formatting = "masked",
) -> list[PreferredResponses]:
    """Encode comparisons, counting in the ledger: rows in, set aside by reason, pairs, tokens (prompts once) and how many that saved, tokens scored.

    `context` is the most tokens that a prompt with one response may have: the model's positions. A comparison that nobody rated is always used.

    Raises:
        FormatError: the exported chat template would write a dialog otherwise than we train it; checked once for each shape of dialog.
    """

    def fault_for(comparison: Comparison) -> str:
        return "" if comparison.rating in (None, *ratings) else f"{NOT_ASKED}: {comparison.rating}"

    def used_of(comparison: Comparison) -> Sequence[int]:
        return comparison.ranking if pairing == "all" else (comparison.ranking[0], comparison.ranking[-1])

    kept = []
    for comparison, used, encoded in encode_sound(comparisons, chat_format, ledger, context=context, fault_for=fault_for, used_of=used_of):
        ended = [comparison.responses[index].stop_reason in ENDED for index in used]
        kept.append(_preferred(encoded, ended, formatting))
        _count(ledger, kept[-1], comparison, ended)
    return kept


def _preferred(encoded: Sequence[EncodedDialog], ended: Sequence[bool], formatting: Formatting) -> PreferredResponses:
    """Return responses from best to worst with what counts of each. One that broke off never teaches to end there."""
    from herdling.tokenizer.chat_format import TokenRole

    shared = head_each(share_prompt(encoded))
    scored, told = [], []
    for one, has_end, ids in zip(encoded, ended, shared.responses, strict=True):
        own = slice(len(one.ids) - len(ids) + 1, None)
        roles, last = np.array(one.roles[own], np.int8), np.array(one.message_index[own]) == one.message_index[-1]
        said = last & (roles == TokenRole.ASSISTANT)
        with_end = said | (last & (roles == TokenRole.END) & has_end)
        scored.append(with_end if formatting == "trained" else said)
        told.append(said if formatting == "masked" else with_end)
    ranks = tuple(range(1, len(encoded) + 1))
    return PreferredResponses(shared=shared, ranks=ranks, scored=tuple(scored), told=tuple(told), reference=(0.0,) * len(encoded))


def head_each(shared: SharedPrompt) -> SharedPrompt:
    """Move the last token of a prompt to the head of each response: there it predicts that response's first token."""
    head = shared.prompt[-1:]
    return SharedPrompt(prompt=shared.prompt[:-1], responses=tuple(np.concatenate([head, one]) for one in shared.responses))


def _count(ledger: Ledger, encoded: PreferredResponses, comparison: Comparison, ended: Sequence[bool]) -> None:
    ledger.keep()
    ledger.count("pairs", sum(encoded.wins))
    ledger.count("tokens", encoded.shared.length)
    ledger.count("tokens of prompts that were not repeated", (len(encoded.ranks) - 1) * len(encoded.shared.prompt))
    ledger.count("tokens scored", sum(int(mask.sum()) for mask in encoded.scored))
    ledger.count("without a rating", int(comparison.rating is None))
    ledger.count("responses that broke off", ended.count(False))
    ledger.count("edits", int(comparison.edited is not None))


def preference_batch(comparisons: Sequence[PreferredResponses], length: int, pad_id: int, *, nll_norm: NllNorm = "sequence") -> PreferenceBatch:
    """Pack comparisons into rows of `length`, as `preference_rows` does."""
    return preference_rows(comparisons, length, pad_id, nll_norm=nll_norm)[0]


def preference_rows(
    comparisons: Sequence[PreferredResponses], length: int, pad_id: int, *, nll_norm: NllNorm = "sequence"
) -> tuple[PreferenceBatch, NDArray[np.int64]]:
    """Pack comparisons into rows of `length`. Returns the batch, and where each response ends: its row and position, int64 `[R, 2]`, in their order.

    With P pairs in all, w pairs that a response wins and n tokens of it that are told, a nat of one costs w / n in the NLL term (`sequence`), w P / N with
    N = the sum of w n over all responses (`batch`), or w (`sum`). Summed and divided by P these are means over pairs of the chosen response's mean; over all
    tokens of chosen responses; over pairs of the chosen response's sum.
    """
    import torch

    batch, ends = lay_out([one.shared for one in comparisons], length, pad_id)
    inputs = batch.input_ids.numpy()
    scored, ranks = np.zeros(inputs.shape, bool), np.zeros_like(inputs)
    weights, reference = np.zeros(inputs.shape, np.float32), np.zeros(inputs.shape, np.float32)
    num_pairs = sum(sum(one.wins) for one in comparisons)
    num_told = sum(wins * int(told.sum()) for one in comparisons for wins, told in zip(one.wins, one.told, strict=True))
    places = iter(ends.tolist())
    for one in comparisons:
        for rank, wins, is_scored, is_told, logprob in zip(one.ranks, one.wins, one.scored, one.told, one.reference, strict=True):
            row, end = next(places)
            own = slice(end - len(is_scored), end)
            per = {"sequence": int(is_told.sum()), "batch": num_told / num_pairs, "sum": 1}[nll_norm]
            scored[row, own] = is_scored
            weights[row, own] = is_told * (wins / per if wins else 0.0)
            ranks[row, end], reference[row, end] = rank, logprob
    loss_mask = scored | (weights > 0)
    labels = np.where(loss_mask, np.roll(inputs, -1, axis=1), 0)
    plain = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    made = {"labels": labels, "loss_mask": loss_mask, "ranks": ranks, "scored": scored, "nll_weights": weights, "reference": reference}
    return PreferenceBatch(**{**plain, **{name: torch.from_numpy(array) for name, array in made.items()}}), ends
