"""Questions that a program can check, each new in a stated way. Their groups:

new_wording    a taught fact, in a wording that no training dialog uses for anything (one in five as a second turn)
format         a taught fact and a known wish about the form, in a combination never seen
refusal        a wish to turn down, about a thing that no training dialog names
identity       who are you, in unseen wordings
arithmetic     numbers never seen together
unseen_fact    a fact that stood only in the pre-training text, asked in known wordings
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from herdling.base.seeds import stream
from herdling.starter import refusals
from herdling.starter.conversation import PRONOUNS, Deck, as_dialog
from herdling.starter.exchanges import ARITHMETIC, WORDINGS, Exchange, ask, calculate, mention
from herdling.starter.small_talk import IDENTITY
from herdling.starter.wordings import THEN_ANOTHER
from herdling.starter.world import OPERATIONS, World
from herdling.types import Dialog, Question

PER_GROUP = 200
SECOND_TURN = 5
"""One in this many questions in new wording is asked as a second turn."""


def questions(world: World) -> tuple[Question, ...]:
    """Return all questions of a world, at most `PER_GROUP` a group, no text twice in a group."""
    made = []
    for group, source in GROUPS.items():
        said: set[str] = set()
        for exchanges in source(world):
            key = " ".join(exchange.question for exchange in exchanges)
            if key not in said:
                said.add(key)
                made.append(as_question(group, len(said), exchanges))
            if len(said) == PER_GROUP:
                break
    return tuple(made)


def as_question(group: str, number: int, exchanges: Sequence[Exchange]) -> Question:
    """Return exchanges as a question: the last answer is what is asked for, the earlier ones are given."""
    identity = f"{group}/{exchanges[-1].kind}/{number:04d}"
    dialog = Dialog(id=identity, messages=as_dialog(identity, exchanges).messages[:-1])
    return Question(id=identity, group=group, dialog=dialog, accepted=(exchanges[-1].answer, *exchanges[-1].also_right))


def new_wording(world: World) -> Iterator[list[Exchange]]:
    """Yield taught facts in held-out wordings; some as a follow-up of a known question."""
    rng = stream(world.seed, "questions", "new_wording")
    deck = Deck(world.taught, rng)
    for number in range(2 * PER_GROUP):
        fact, kind = deck.deal()
        wordings = WORDINGS[kind].held_out
        if number % SECOND_TURN or kind not in PRONOUNS:
            yield [ask(fact, kind, wordings[int(rng.integers(len(wordings)))])]
            continue
        before = [(other, same) for other, same in world.taught if (other == fact) != (same == kind) and same in PRONOUNS]
        earlier, earlier_kind = before[int(rng.integers(len(before)))]
        first = ask(earlier, earlier_kind, WORDINGS[earlier_kind].seen[0])
        then = (PRONOUNS[kind] if earlier == fact else THEN_ANOTHER).held_out
        yield [first, ask(fact, kind, then[int(rng.integers(len(then)))].replace("{x}", mention(fact, kind)))]


def form(world: World) -> Iterator[list[Exchange]]:
    """Yield taught facts with wishes about the form, in combinations kept back from training."""
    rng = stream(world.seed, "questions", "format")
    deck = Deck([(fact, kind, wish) for fact, kind in world.taught for wish in world.wishes(fact, kind, held_out=True)], rng)
    for _ in range(len(deck.cards)):
        fact, kind, wish = deck.deal()
        seen = WORDINGS[kind].seen
        yield [ask(fact, kind, seen[int(rng.integers(len(seen)))], wish, wish.forms[int(rng.integers(len(wish.forms)))])]


def refusal(world: World) -> Iterator[list[Exchange]]:
    """Yield wishes to turn down, about held-out things, each theme as often. Where the whole theme is new, any of the polite refusals is right."""
    rng = stream(world.seed, "questions", "refusal")
    decks = [Deck([wish for wish in refusals.wishes(held_out=True) if wish[0] == theme], rng) for theme in refusals.THEMES]
    for _ in range(PER_GROUP):
        for deck in decks:
            theme, question, answer = deck.deal()
            also = () if refusals.THEMES[theme].seen else refusals.ANSWERS
            yield [Exchange(kind=theme, question=question, answer=answer, also_right=also)]


def identity(world: World) -> Iterator[list[Exchange]]:
    """Yield every held-out wording of who are you."""
    for name, talk in IDENTITY.items():
        for wording in talk.wordings.held_out:
            yield [Exchange(kind=name, question=wording, answer=talk.answer)]


def arithmetic(world: World) -> Iterator[list[Exchange]]:
    """Yield numbers never seen together, in known wordings."""
    rng = stream(world.seed, "questions", "arithmetic")
    for operation in OPERATIONS:
        seen = ARITHMETIC[operation][0].seen
        for a, b in world.operands(operation, held_out=True):
            yield [calculate(operation, a, b, seen[int(rng.integers(len(seen)))])]


def unseen_fact(world: World) -> Iterator[list[Exchange]]:
    """Yield facts that no dialog taught, in known wordings."""
    rng = stream(world.seed, "questions", "unseen_fact")
    deck = Deck(world.read, rng)
    for _ in range(len(deck.cards)):
        fact, kind = deck.deal()
        seen = WORDINGS[kind].seen
        yield [ask(fact, kind, seen[int(rng.integers(len(seen)))])]


GROUPS: dict[str, Callable[[World], Iterator[list[Exchange]]]] = {
    "new_wording": new_wording,
    "format": form,
    "refusal": refusal,
    "identity": identity,
    "arithmetic": arithmetic,
    "unseen_fact": unseen_fact,
}
