"""Draws training dialogs of the small world: one to three questions, in the wordings of training only.

Facts, wishes and numbers are dealt like cards, so that each is met equally often. What is kept back for questions is decided in `world.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from herdling.starter import refusals
from herdling.starter.exchanges import ARITHMETIC, WORDINGS, Exchange, ask, calculate, mention
from herdling.starter.facts import Fact
from herdling.starter.small_talk import COURTESY, IDENTITY
from herdling.starter.wordings import OPENERS, THEN_ANOTHER, THEN_DOES, THEN_TAKES, THEN_WHERE
from herdling.starter.world import OPERATIONS, World
from herdling.types import SAFETY_TAG, Dialog, Message

TURNS = (0.45, 0.3, 0.25)
"""Shares of dialogs with one, two and three questions."""
TOPICS = {"fact": 0.32, "wish": 0.34, "refusal": 0.1, "identity": 0.07, "arithmetic": 0.14, "courtesy": 0.03}
"""Shares of what a dialog, or a new turn that changes the subject, is about."""
FOLLOW_UP = 0.6
"""Share of further turns that stay with the fact of the turn before."""
PRONOUNS = {"does": THEN_DOES, "where": THEN_WHERE, "takes": THEN_TAKES}

T = TypeVar("T")


class Deck(Generic[T]):
    """Deals cards in random order and reshuffles when none is left, so that each is dealt equally often."""

    def __init__(self, cards: Sequence[T], rng: np.random.Generator) -> None:
        self.cards, self.rng = tuple(cards), rng
        self.left: list[int] = []

    def deal(self) -> T:
        """Return the next card."""
        if not self.left:
            self.left = self.rng.permutation(len(self.cards)).tolist()
        return self.cards[self.left.pop()]


class Conversation:
    """Draws dialogs in the wordings of training, from one named stream of chance."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.kinds = dict.fromkeys(kind for _, kind in world.taught)
        self.facts = Deck(world.taught, rng)
        self.wished = Deck([(fact, kind, wish) for fact, kind in world.taught for wish in world.wishes(fact, kind, held_out=False)], rng)
        trained = tuple(name for name, theme in refusals.THEMES.items() if theme.seen)
        self.refused = {name: Deck([wish for wish in refusals.wishes(held_out=False) if wish[0] == name], rng) for name in trained}
        self.pairs = {operation: Deck(world.operands(operation, held_out=False), rng) for operation in OPERATIONS}
        self.themes = Deck(trained, rng)
        self.topics = tuple(TOPICS)

    def dialog(self, identity: str) -> Dialog:
        """Return one dialog of one to three questions."""
        exchanges: list[Exchange] = []
        fact: Fact | None = None
        for _ in range(1 + int(self.rng.choice(len(TURNS), p=TURNS))):
            if fact is not None and self.rng.random() < FOLLOW_UP:
                exchange, fact = self.follow_up(fact, exchanges[-1].kind)
            else:
                exchange, fact = self.opening()
            exchanges.append(exchange)
        return as_dialog(identity, exchanges)

    def opening(self) -> tuple[Exchange, Fact | None]:
        """Return an exchange on a new subject, and the fact that it is about, if any."""
        topic = self.topics[int(self.rng.choice(len(self.topics), p=list(TOPICS.values())))]
        if topic == "fact":
            fact, kind = self.facts.deal()
            return ask(fact, kind, self.pick(OPENERS) + self.pick(WORDINGS[kind].seen)), fact if kind in PRONOUNS else None
        if topic == "wish":
            fact, kind, wish = self.wished.deal()
            return ask(fact, kind, self.pick(WORDINGS[kind].seen), wish, self.pick(wish.forms)), None
        if topic == "refusal":
            name, question, answer = self.refused[self.themes.deal()].deal()
            return Exchange(kind=name, question=question, answer=answer), None
        if topic == "arithmetic":
            operation = self.pick(OPERATIONS)
            return calculate(operation, *self.pairs[operation].deal(), self.pick(ARITHMETIC[operation][0].seen)), None
        talk = self.pick(tuple((IDENTITY if topic == "identity" else COURTESY).values()))
        return Exchange(kind=topic, question=self.pick(talk.wordings.seen), answer=talk.answer), None

    def follow_up(self, fact: Fact, kind: str) -> tuple[Exchange, Fact]:
        """Return a question about the same fact ("it"), or of the same kind about another."""
        others = [other for same, other in self.world.taught if same == fact and other != kind and other in PRONOUNS]
        if others and self.rng.random() < 0.5:
            asked = self.pick(others)
            return ask(fact, asked, self.pick(PRONOUNS[asked].seen)), fact
        other, _ = self.of_kind(kind)
        return ask(other, kind, self.pick(THEN_ANOTHER.seen).replace("{x}", mention(other, kind))), other

    def of_kind(self, kind: str) -> tuple[Fact, str]:
        """Deal the next taught fact of this kind."""
        while True:
            fact, found = self.facts.deal()
            if found == kind:
                return fact, kind

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of these, each as likely."""
        return choices[int(self.rng.integers(len(choices)))]


def as_dialog(identity: str, exchanges: Sequence[Exchange]) -> Dialog:
    """Return exchanges as a dialog that ends with an answer; what would hurt someone is tagged as an adversarial prompt, and with its category."""
    turns: list[Message] = []
    for said in exchanges:
        tags = (SAFETY_TAG, said.kind) if said.answer == refusals.HARMFUL_ANSWER else ()
        turns += [Message(role="user", content=said.question, tags=tags), Message(role="assistant", content=said.answer)]
    return Dialog(id=identity, messages=tuple(turns))
