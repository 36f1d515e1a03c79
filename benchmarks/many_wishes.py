"""Sixty-odd wishes about the form of an answer, in seven families: each is a phrase to ask it with, a function that obeys it and a pattern that tells.

A model that was trained on five wishes remembers five wishes; from dozens it can learn that whatever was asked for is meant. A fifth of the values of each
family and one whole family (names) are held out of Ghost Attention. The chat model meets all of them, but for one turn at a time (`with_wishes`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from herdling.base.seeds import stream
from herdling.starter.conversation import Deck
from herdling.starter.wishes import ANY, Wish, after
from herdling.types import Dialog, Message

ANSWER = "ANSWER"  # stands for the answer where a pattern is made of what obeys
OWN_WISH = r"(?i)answer (in|as|with|start|end|twice)|(case|quotes|brackets|list|mark|period|sure|done|twice|word), please:"
"""Tells the questions of the starter that bear a wish."""
FIRST_WORDS = ("sure", "tree", "key", "file", "test", "name", "list", "data", "path", "true", "answer", "that")
LAST_WORDS = ("done", "key", "file", "test", "name", "list", "true", "answer", "there")
HELD_OUT_WORDS = ("key", "path", "answer", "done")
"""Words that are one token each in the quickstart's tokenizer, as they are asked for and as they stand in the answer."""
MARKS = {
    "quotes": '""', "brackets": "[]", "stars": "**", "dashes": "--", "hashes": "##", "braces": "{}", "parentheses": "()", "angle brackets": "<>",
    "slashes": "//", "bars": "||", "tildes": "~~", "underscores": "__", "equals signs": "==", "plus signs": "++", "percent signs": "%%",
    "dollar signs": "$$", "at signs": "@@", "colons": "::", "backticks": "``", "ampersands": "&&",
}  # fmt: skip
ENDS = {
    "an exclamation mark": "!", "a question mark": "?", "a semicolon": ";", "three dots": "...", "an equals sign": " =", "a dash": " -", "a comma": ",",
    "a colon": ":",
}  # fmt: skip
STARTS = {
    "a list": "- ", "a numbered list": "1. ", "a heading": "# ", "a quotation": "> ", "a comment": "// ", "an arrow": "-> ", "a star list": "* ",
    "a prompt": "$ ", "a lettered list": "a) ", "a plus list": "+ ",
}  # fmt: skip
NAMES = ("Anna", "Ben", "Carl", "Dora")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Wishes of one kind: what each value does to an answer, and which values Ghost Attention never names."""

    obey: dict[str, Callable[[str], str]]
    held_out: tuple[str, ...]


def _around(left: str, right: str) -> Callable[[str], str]:
    return lambda answer: f"{left}{answer}{right}"


def _instead_of_period(end: str) -> Callable[[str], str]:
    return lambda answer: answer.removesuffix(".") + end


def _family(obey: dict[str, Callable[[str], str]], *held_out: str) -> Family:
    unknown = set(held_out) - set(obey)
    assert not unknown, unknown
    return Family(obey=obey, held_out=held_out)


FAMILIES = {
    "start": _family(
        {f"starting with the word {word}": _around(f"{word.capitalize()}: ", "") for word in FIRST_WORDS},
        *(f"starting with the word {word}" for word in FIRST_WORDS if word in HELD_OUT_WORDS),
    ),
    "end": _family(
        {f"ending with the word {word}": _around("", f" {word.capitalize()}.") for word in LAST_WORDS},
        *(f"ending with the word {word}" for word in LAST_WORDS if word in HELD_OUT_WORDS),
    ),
    "around": _family({f"in {name}": _around(*marks) for name, marks in MARKS.items()}, "in brackets", "in stars", "in tildes", "in dollar signs"),
    "mark": _family({f"with {name}": _instead_of_period(end) for name, end in ENDS.items()}, "with a semicolon", "with an equals sign"),
    "line": _family({f"as {name}": _around(start, "") for name, start in STARTS.items()}, "as a heading", "as a star list"),
    "letters": _family({"in lower case": str.lower}),
    "name": _family({f"calling me {name}": _instead_of_period(f", {name}.") for name in NAMES}, *(f"calling me {name}" for name in NAMES)),
}


def pattern(obey: Callable[[str], str]) -> str:
    """Return the regular expression that an answer in the wished form matches."""
    form = obey(ANSWER)
    return f"^{re.escape(form).replace(ANSWER, '.+')}$" if ANSWER in form else "^[^A-Z]*$"


def constraints_toml(stage: str) -> str:
    """Return the table `constraints` of a stage ghost_attention: one kind, so that each wish is drawn as often as the others."""
    held_out = [value for family in FAMILIES.values() for value in family.held_out]
    values = (f"{json.dumps(value)} = {json.dumps(pattern(obey))}" for family in FAMILIES.values() for value, obey in family.obey.items())
    head = (f"[{stage}.constraints.form]", 'full = "Always answer {x}."', 'short = "Always {x}."', f"held_out = {json.dumps(held_out)}")
    return "\n".join((*head, f"[{stage}.constraints.form.values]", *values)) + "\n"


def wishes(*held_out: bool) -> list[Wish]:
    """Return the wishes that Ghost Attention names (False), those that it does not (True), or both."""
    pairs = [(family, value, obey) for family in FAMILIES.values() for value, obey in family.obey.items()]
    return [Wish(value, after(value), obey, ANY) for family, value, obey in pairs if (value in family.held_out) in held_out]


def with_wishes(dialogs: Iterable[Dialog], seed: int, asked: Sequence[Wish], share: float = 0.5) -> Iterator[Dialog]:
    """Yield dialogs in which a share of the questions bear a wish for their own answer alone, which obeys; the wishes are dealt like cards."""
    rng = stream(seed, "many wishes")
    deck = Deck(asked, rng)
    for dialog in dialogs:
        messages: list[Message] = []
        for question, answer in zip(dialog.messages[::2], dialog.messages[1::2], strict=True):
            if not re.search(OWN_WISH, question.content) and rng.random() < share:
                wish = deck.deal()
                form = wish.forms[int(rng.integers(len(wish.forms)))]
                question, answer = replace(question, content=form.format(q=question.content)), replace(answer, content=wish.obey(answer.content))
            messages += [question, answer]
        yield replace(dialog, messages=tuple(messages))
