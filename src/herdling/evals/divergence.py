"""How far a policy has moved from its reference: KL(policy || reference) of whole answers, in nats, estimated from answers that the policy sampled.

E[log p(y|x) - log p_ref(y|x)] over y drawn from p at temperature 1 with nothing cut off: the KL that PPO is held by (Llama 2, section 3.2.3), unbiased, its
interval told by the spread over prompts. Both log-probabilities come from the same forward, so that a policy is at distance 0 from itself. Costs one forward
of each model over the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from herdling.base.errors import LineageError
from herdling.generate.loaded import LoadedModel
from herdling.generate.scoring import FORWARD_TOKENS
from herdling.model.heads import token_logprobs
from herdling.tokenizer.base import Tokenizer
from herdling.tokenizer.chat_format import ChatFormat

Ids = Sequence[int]


def log_ratios(policy: LoadedModel, reference: LoadedModel, prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[float]:
    """Return log p(answer | prompt) - log p_ref(answer | prompt) for each sampled answer, in nats; answers hold the token that ended them.

    Raises:
        LineageError: the two have different tokenizers or chat templates, so that the ids mean other texts.
    """
    check_same_texts(policy, reference)
    ours, theirs = answer_logprobs(policy, prompts, answers), answer_logprobs(reference, prompts, answers)
    return [one - other for one, other in zip(ours, theirs, strict=True)]


class Reader(Protocol):
    """What reads and writes texts as tokens: a `LoadedModel`, or what is known of one before its weights are."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns its texts into ids."""

    @property
    def chat_format(self) -> ChatFormat:
        """How its chats are written."""


def check_same_texts(policy: Reader, reference: Reader) -> None:
    """Check that a model reads what another writes as the same text. Raises `LineageError`."""
    for what, found, expected in (
        ("tokenizer", reference.tokenizer.fingerprint, policy.tokenizer.fingerprint),
        ("chat template", reference.chat_format.fingerprint, policy.chat_format.fingerprint),
    ):
        if found != expected:
            raise LineageError(
                f"{reference.name}: has the {what} {found[:12]}, {policy.name} has {expected[:12]}: a KL divergence between the two means nothing."
                " Take as reference the model that the policy was tuned from"
            )


@torch.inference_mode()
def answer_logprobs(model: LoadedModel, prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[float]:
    """Return log p(answer | prompt) of each in nats, as sums over the answer's tokens; float32 `[B]` in effect, summed in float64."""
    llama, found = model.model, [0.0] * len(prompts)
    device = llama.output_weight.device
    for members in _forwards([len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]):
        rows = [[*prompts[number], *answers[number]] for number in members]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        places = torch.arange(longest)
        lengths = torch.tensor([len(row) for row in rows])[:, None]
        starts = torch.tensor([len(prompts[number]) for number in members])[:, None]
        document_ids = torch.where(places < lengths, 0, -1).to(device)
        # The token at t + 1 is predicted at t: the first of the answer behind the prompt's last.
        wanted = (places >= starts - 1) & (places < lengths - 1)
        hidden = llama(ids.to(device), document_ids=document_ids)
        logprobs = token_logprobs(hidden, llama.output_weight, ids.roll(-1, dims=1).to(device), wanted.to(device))
        for number, total in zip(members, logprobs.double().sum(dim=1).tolist(), strict=True):
            found[number] = total
    return found


def _forwards(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield places of about one length, so that little is padded, as many as a forward takes."""
    taken: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        if taken and (len(taken) + 1) * lengths[taken[0]] > FORWARD_TOKENS:
            yield taken
            taken = []
        taken.append(number)
    if taken:
        yield taken
