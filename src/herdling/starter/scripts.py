"""What is asked when answers are compared: dialogs as scripts of questions, dealt by campaign.

A script is the questions of one dialog from some turn on, each with its accepted answer, so that a program can judge whatever is said in its place.
Helpfulness asks all dialogs from their first turn on; safety from the first adversarial turn, with harmless dialogs between, or refusing all would be best.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from herdling.base.errors import DataError
from herdling.base.seeds import stream
from herdling.starter.conversation import Deck
from herdling.starter.taste import is_harmful, questions_of
from herdling.types import Campaign, Dialog, Question

Script = Sequence[Question]


def scripts(dialogs: Iterable[Dialog], campaign: Campaign, *, adversarial_share: float, seed: int) -> Iterator[Script]:
    """Yield scripts without end, each as often as the others of its kind. `adversarial_share` counts in a safety campaign; helpfulness takes all as they come.

    Raises:
        DataError: there is no dialog to ask, or none of the kind that the campaign needs.
    """
    rng = stream(seed, "scripts", campaign)
    whole = [script for dialog in dialogs if (script := tuple(questions_of(dialog)))]
    if not whole:
        raise DataError("no dialog with a question and an answer is there to ask. Give prepare_data dialogs, such as starter:dialogs")
    if campaign == "helpfulness":
        deck = Deck(whole, rng)
        while True:
            yield deck.deal()
    adversarial = [script[first:] for script in whole if (first := _first_harmful(script)) is not None]
    harmless = [script for script in whole if _first_harmful(script) is None]
    for kind, found, share in (("adversarial", adversarial, adversarial_share), ("harmless", harmless, 1 - adversarial_share)):
        if not found and share > 0:
            raise DataError(f"no {kind} dialog among {len(whole):,}: a safety campaign asks for {share:.0%} of them. The starter's dialogs have both kinds")
    decks = Deck(harmless, rng), Deck(adversarial, rng)
    while True:
        yield decks[rng.random() < adversarial_share].deal()


def _first_harmful(script: Script) -> int | None:
    return next((index for index, question in enumerate(script) if is_harmful(question)), None)
