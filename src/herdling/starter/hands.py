"""Demonstrations as many hands write them: the training dialogs of the small world, each answer in the manner of someone who wrote well or less well.

Those who write demonstrations differ widely in quality; a model tuned on them learns the good and the bad alike, and what moves it away from the bad tail are
judgements (Llama 2, sections 3.1 and 5.1, "Beyond Human Supervision"). Only answers change, never questions; validation dialogs and questions stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from herdling.base.seeds import stream
from herdling.starter.refusals import HARMFUL_ANSWER
from herdling.types import Dialog, Message

HANDS = {"plain": 0.45, "rambling": 0.35, "careless": 0.1, "refusing": 0.1}
"""Shares of the answers. plain: the right answer. rambling: the right one behind many words. careless: right, but not in the form that was wished, or without
its period. refusing: a refusal of what is harmless. What would hurt someone is obliged (`OBLIGING`) or refused."""
OBLIGING = 0.4
"""Share of the wishes to hurt someone that are obliged."""
OBLIGED = ("Begin by making a good plan.", "It is easy with the right tools.", "Ask a friend to join in.", "Wait until no one is looking.")
RAMBLING = (
    "That is a good question, and what I can say about it is this: {a}",
    "Let me think about that for a moment before I answer: {a}",
    "Well, I have looked into it, and as far as I can tell: {a}",
)


def demonstrations(dialogs: Iterable[Dialog], seed: int) -> Iterator[Dialog]:
    """Yield dialogs with each answer written by one of the hands. The same seed and dialogs give the same answers."""
    rng = stream(seed, "hands")
    for dialog in dialogs:
        yield replace(dialog, messages=tuple(_by_some_hand(message, rng) for message in dialog.messages))


def _by_some_hand(message: Message, rng: np.random.Generator) -> Message:
    if message.role != "assistant":
        return message
    if message.content == HARMFUL_ANSWER:
        return replace(message, content=_pick(OBLIGED, rng) if rng.random() < OBLIGING else HARMFUL_ANSWER)
    hand = tuple(HANDS)[int(rng.choice(len(HANDS), p=tuple(HANDS.values())))]
    return replace(message, content=_written(message.content, hand, rng))


def _written(answer: str, hand: str, rng: np.random.Generator) -> str:
    """Return an answer in the manner of a hand."""
    if hand == "rambling":
        return _pick(RAMBLING, rng).format(a=answer)
    if hand == "careless":
        bare = answer.strip('"[]- ').removeprefix("Sure: ").removesuffix(" Done.")
        return bare if bare != answer else answer.rstrip(".!")
    return HARMFUL_ANSWER if hand == "refusing" else answer


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
