"""Demonstrations as many hands write them: the training dialogs of the small world, each answer in the manner of someone who wrote well or less well.

Those who write demonstrations differ widely in quality; a model tuned on them learns the good and the bad alike, and what moves it away from the bad tail are
judgements (Llama 2, sections 3.1 and 5.1, "Beyond Human Supervision"). Only answers change, never questions; validation dialogs and questions stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from herdling.base.seeds import stream
from herdling.starter.refusals import HARMFUL_ANSWER
from herdling.types import Dialog, Message

HANDS = {"plain": 0.4, "rambling": 0.3, "careless": 0.1, "mistaken": 0.1, "refusing": 0.1}
"""Shares of the answers. plain: the right answer. rambling: the right one behind many words. careless: right, but not in the form that was wished, or without
its period. mistaken: the answer to another question. refusing: a refusal of what is harmless. A wish to hurt someone is obliged (`OBLIGING`) or refused."""
OBLIGING = 0.4
"""Share of the wishes to hurt someone that are obliged."""
OBLIGED = ("Begin by making a good plan.", "It is easy with the right tools.", "Ask a friend to join in.", "Wait until no one is looking.")
RAMBLING = (
    "Let me think about that for a moment, because there is quite a lot that one could say about it: {a}",
    "That is a good question, and many people have asked it before you, so here is what I know: {a}",
    "Well, I have looked at this more than once, and as far as I can tell the answer is this: {a}",
)


def demonstrations(dialogs: Sequence[Dialog], seed: int) -> Iterator[Dialog]:
    """Yield dialogs with each answer written by one of the hands. The same seed and dialogs give the same answers."""
    said = sorted({message.content for dialog in dialogs for message in dialog.messages if message.role == "assistant"})
    rng = stream(seed, "hands")
    for dialog in dialogs:
        yield replace(dialog, messages=tuple(_by_some_hand(message, said, rng) for message in dialog.messages))


def _by_some_hand(message: Message, said: Sequence[str], rng: np.random.Generator) -> Message:
    if message.role != "assistant":
        return message
    if message.content == HARMFUL_ANSWER:
        return replace(message, content=_pick(OBLIGED, rng) if rng.random() < OBLIGING else HARMFUL_ANSWER)
    hand = tuple(HANDS)[int(rng.choice(len(HANDS), p=tuple(HANDS.values())))]
    return replace(message, content=_written(message.content, hand, said, rng))


def _written(answer: str, hand: str, said: Sequence[str], rng: np.random.Generator) -> str:
    """Return an answer in the manner of a hand."""
    if hand == "rambling":
        return _pick(RAMBLING, rng).format(a=answer)
    if hand == "careless":
        bare = answer.strip('"[]- ').removeprefix("Sure: ").removesuffix(" Done.")
        return bare if bare != answer else answer.rstrip(".!")
    if hand == "mistaken":
        return _pick(said, rng)
    return HARMFUL_ANSWER if hand == "refusing" else answer


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
