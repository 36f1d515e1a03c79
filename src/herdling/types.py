"""Plain frozen values that cross from one room of the house to another.

Reads and writes nothing, imports no torch at run time. A value that two folders exchange belongs here; ids, storage and rendering do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["system", "user", "assistant", "tool"]
StopReason = Literal["end_of_turn", "end_of_message", "end_of_text", "stop_string", "max_tokens", "context_full", "cancelled"]
Rating = Literal["significantly", "better", "slightly", "negligibly"]
"""How much better the chosen response is (Llama 2, section 3.2.1); `negligibly` includes "unsure"."""
Campaign = Literal["helpfulness", "safety"]
"""What a judgement is about: the two are collected apart, with guidelines of their own (Llama 2, section 3.2.1)."""
Supervised = Literal["all", "last"]
"""Which of the assistant's answers are trained on: all of them, or those behind the last message of the user only (Llama 2, sections 3.2.3 and 3.3)."""
SAFETY_TAG = "safety"
"""Marks a message of the user as an adversarial prompt: what Llama 2, section 3.2.3, calls a prompt tagged as eliciting unsafe responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text of one source: the unit of cleaning, of epochs and of the document mask."""

    text: str
    id: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call that an assistant asks for; `arguments` are decoded JSON."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a dialog. A `tool` message carries the result of the call named by `tool_call_id`."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    tags: tuple[str, ...] = ()
    """What the message is marked with, such as `SAFETY_TAG`. Kept in records; no chat format writes it, no model reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """A conversation, with the JSON schemas of the tools that it may call."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    supervised: Supervised = "all"
    """Which answers fine-tuning is to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question whose answer a program can check. `dialog` ends with a user message; `rule` is one of `evals.grading`."""

    id: str
    group: str
    dialog: Dialog
    accepted: tuple[str, ...]
    rule: str = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off; defaults are Llama's (Meta's code)."""

    temperature: float = 0.6
    top_p: float = 0.9
    top_k: int = 0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered, why it stopped, and how likely it was (sum of log-probabilities in nats).

    Answers that came from elsewhere (an imported file, a person's edit) have no `logprob`, `sampling` or `model`.
    """

    message: Message
    stop_reason: StopReason
    logprob: float | None = None
    model: str = ""
    model_fingerprint: str = ""
    """Of the weights that answered: names may be reused, fingerprints are not."""
    sampling: Sampling | None = None
    token_ids: tuple[int, ...] = ()
    token_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One answer that the policy being trained gave to a prompt, with what the reward models say of it: what PPO learns from."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """With the token that ended it, if one did: none is ever added."""
    logprobs: tuple[float, ...]
    """Of each token, by whoever generated it, in nats."""
    text: str
    ended: bool
    """False for an answer that was cut at the most tokens it may have."""
    reward: float | None
    """Logit of the gated reward; None for an answer that cannot be judged: an empty one, or one that the chat format cannot write."""
    helpfulness: float | None = None
    safety: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One judgement of responses to the same dialog (Llama 2, section 3.2.1; Llama 3, section 4.2.1).

    `dialog` ends with a user message; `responses` stand as they were shown, the left one first, an edit last; `ranking` names them from best to worst. `rating`
    says how much better the chosen response is than the rejected one, leaving edits aside. `safe` holds a flag for each response, or is None where
    nobody was asked. `base.comparison_records` says what makes one usable.
    """

    id: str
    dialog: Dialog
    responses: tuple[Completion, ...]
    ranking: tuple[int, ...]
    rating: Rating | None = None
    safe: tuple[bool, ...] | None = None
    edited: int | None = None
    """Which response is an edit of the chosen one, if any: edited > chosen > rejected (Llama 3, section 4.2.1)."""
    campaign: Campaign = "helpfulness"
    annotator: str = ""
    simulated: bool = False
    """True where a program judged, not a person."""
    round: str = ""
    """The batch that it was collected in."""
    seconds: float | None = None
    """Time on task."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else a file or campaign knows: source row, guidelines version, agreement."""

    @property
    def ranked(self) -> tuple[Completion, ...]:
        """The responses from best to worst."""
        return tuple(self.responses[index] for index in self.ranking)

    @property
    def judged(self) -> tuple[int, ...]:
        """The ranking without the edit: what was compared. The first is the chosen one, the last the rejected."""
        return tuple(index for index in self.ranking if index != self.edited)

    @property
    def turn(self) -> int:
        """Which answer of the dialog was judged, from 1."""
        return sum(message.role == "user" for message in self.dialog.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Packed rows of tokens, all tensors `[B, T]`; what a loader yields and an objective reads.

    `labels[b, t]` is the token that position t predicts (already shifted: no later code shifts again). `loss_mask` is True where that prediction is
    supervised. `position_ids` restart at 0 with each document. `document_ids` number the documents of a row from 0; padding is -1 and attends only
    to itself. Integers are int64, `loss_mask` is bool. `response_ids`, where there are any, tell the prompt of a document (0) from the responses to it
    (1, 2, ...): each reads the prompt and itself, and its positions go on where the prompt's end.
    """

    input_ids: Tensor
    labels: Tensor
    loss_mask: Tensor
    position_ids: Tensor
    document_ids: Tensor
    response_ids: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardBatch(Batch):
    """Packed rows of comparisons. The three tensors `[B, T]` speak of a response at the position of its last token, the one that ends the turn."""

    ranks: Tensor
    """1 = the best of its document, 2 = the next, ...; 0 at all other positions; int64."""
    margins: Tensor
    """By how much the scores of a document's responses shall differ (Llama 2, table 27); float32."""
    safe: Tensor
    """1 = safe, 0 = unsafe, -1 = nobody said, and at all other positions; int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceBatch(Batch):
    """Packed rows of responses that are preferred to others. `loss_mask` is True where the token predicted counts in any term of the loss; `ranks` and
    `reference` speak of a response at the position that it ends at.
    """

    ranks: Tensor
    """1 = the best of its document, 2 = the next, ...; 0 at all other positions; int64."""
    scored: Tensor
    """True where the token predicted counts in the log-probability of its response, which the preference is about; bool."""
    nll_weights: Tensor
    """What a nat of the predicted token costs beside the preference, in pairs: 0 outside the responses that win; float32."""
    reference: Tensor
    """Log-probability of a response under the reference model, over its scored tokens, in nats; float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All that an objective ever sees of the model: per-token log-probabilities of `labels` (nats, 0 where not supervised), and values."""

    logprobs: Tensor
    values: Tensor | None = None
