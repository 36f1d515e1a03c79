"""What answers say too often: emoji, exclamation marks, apologies (Llama 3, section 4.2.3, "Data cleaning": rules that remove or modify, and a balance).

The paper names the faults and prints no threshold, so each rule is off until it is given one. Looks at the answers of a dialog, never at what the user wrote;
code between backticks is not prose, so an exclamation mark in it counts for nothing. Costs one pass over the text; needs no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Annotated, Literal

from pydantic import Field

from herdling.base.decode import settings
from herdling.base.errors import SettingsError
from herdling.base.seeds import stream
from herdling.types import Dialog

TOO_MANY_EMOJI = "too many emoji in an answer"
TOO_MANY_EXCLAMATIONS = "too many exclamation marks in an answer"
OVERUSED = "an overused phrase, beyond its share"

_SHOWN_AS_EMOJI = (
    "\U0001f004\U0001f0cf\U0001f18e\U0001f191-\U0001f19a\U0001f201\U0001f21a\U0001f22f\U0001f232-\U0001f236\U0001f238-\U0001f23a\U0001f250\U0001f251"
    "\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f7e0-\U0001f7eb\U0001f7f0\U0001f90c-\U0001f9ff\U0001fa70-\U0001faff"
    "\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea"
    "\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55"
)
_ONE = rf"(?:[{_SHOWN_AS_EMOJI}]\ufe0f?|[\u203c-\u3299]\ufe0f)[\U0001f3fb-\U0001f3ff]?"
_WHOLE = rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}|{_ONE}(?:\u200d{_ONE})*)"
EMOJI = re.compile(rf"^{_WHOLE} ?| ?{_WHOLE}", re.MULTILINE)
"""One emoji as a reader counts them (a flag, a family, a skin tone), with the space before it, at the beginning of a line behind it."""
EXCLAMATIONS = re.compile(r"[!\uff01]+(?=$|[\s\"'\u201d\u2019)\]*_])")
"""A run of exclamation marks at the end of a word: `!=` and `!x` are none."""
CODE = re.compile(r"(```.*?(?:```|$)|`[^`\n]*`)", re.DOTALL)


@settings
class OveruseConfig:
    """Which habits of answers are bounded."""

    max_emoji: Annotated[int, Field(ge=0)] | None = None
    """The most emoji in an answer. Unset: any number."""
    max_exclamations: Annotated[int, Field(ge=0)] | None = None
    """The most exclamation marks in the prose of an answer. Unset: any number."""
    excess: Literal["drop", "mend"] = "drop"
    """What becomes of a dialog with more: it goes, or its answers are mended (further emoji are left out, further exclamations end with a full stop)."""
    phrases: tuple[str, ...] = ("I'm sorry", "I am sorry", "I apologize", "I apologise", "my apologies")
    """Overused phrases, wherever they stand in an answer and whatever their case. The paper's examples are "I'm sorry" and "I apologize"."""
    max_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """At most this share of the dialogs that are kept has an overused phrase; those of the lowest quality x difficulty go first. Unset: any share."""

    def __post_init__(self) -> None:
        if self.max_share is not None and not any(phrase.strip() for phrase in self.phrases):
            raise SettingsError("overuse.phrases: names none, so max_share has nothing to bound")

    def fault(self, dialog: Dialog) -> str:
        """Return why a dialog goes, or an empty text."""
        answers = [message.content for message in dialog.messages if message.role == "assistant"]
        if self.max_emoji is not None and any(num_emoji(text) > self.max_emoji for text in answers):
            return TOO_MANY_EMOJI
        if self.max_exclamations is not None and any(num_exclamations(text) > self.max_exclamations for text in answers):
            return TOO_MANY_EXCLAMATIONS
        return ""

    def mended(self, dialog: Dialog) -> Dialog:
        """Return a dialog without the excess of its answers where it is to be mended and something is left of them; else the dialog as it is."""
        if self.excess == "drop" or not self.fault(dialog):
            return dialog
        messages = tuple(replace(one, content=self._mended_text(one.content)) if one.role == "assistant" else one for one in dialog.messages)
        return replace(dialog, messages=messages) if all(message.content.strip() or message.tool_calls for message in messages) else dialog

    def overuses(self, dialog: Dialog) -> bool:
        """Say whether an answer has one of the phrases."""
        said = "\n".join(message.content for message in dialog.messages if message.role == "assistant").replace("\u2019", "'").lower()
        return any(phrase.lower() in said for phrase in self.phrases if phrase.strip())

    def _mended_text(self, text: str) -> str:
        if self.max_emoji is not None:
            text = _beyond(EMOJI, text, self.max_emoji, lambda found: found[0], lambda found: "").strip()
        if self.max_exclamations is not None and num_exclamations(text) > self.max_exclamations:
            text = _beyond(EXCLAMATIONS, text, self.max_exclamations, lambda found: found[0][:1], _full_stop)
        return text


def num_emoji(text: str) -> int:
    """Return how many emoji a reader sees in the prose of a text."""
    return sum(len(EMOJI.findall(part)) for part in CODE.split(text)[::2])


def num_exclamations(text: str) -> int:
    """Return how many exclamation marks the prose of a text has."""
    return sum(len(run) for part in CODE.split(text)[::2] for run in EXCLAMATIONS.findall(part))


def beyond_share(overused: Sequence[bool], score: Sequence[float], max_share: float, seed: int) -> set[int]:
    """Return the places of those to set aside, so that at most `max_share` of what is left is overused: the lowest scores first, equal ones by lot.

    With n others left, k may stay where k / (k + n) <= max_share.
    """
    places = [place for place, has in enumerate(overused) if has]
    others = len(overused) - len(places)
    allowed = int(max_share * others / (1 - max_share) + 1e-9)
    lot = stream(seed, "overused").permutation(len(places)).tolist()
    ordered = sorted(range(len(places)), key=lambda number: (-score[places[number]], lot[number]))
    return {places[number] for number in ordered[allowed:]}


Put = Callable[[re.Match[str]], str]


def _beyond(pattern: re.Pattern[str], text: str, most: int, within: Put, beyond: Put) -> str:
    """Return a text in whose prose the first `most` finds are put in one way and the others in another."""
    numbers, parts = count(), CODE.split(text)

    def put(found: re.Match[str]) -> str:
        return within(found) if next(numbers) < most else beyond(found)

    return "".join(part if place % 2 else pattern.sub(put, part) for place, part in enumerate(parts))


def _full_stop(found: re.Match[str]) -> str:
    """End a sentence quietly; behind a question mark nothing is missing."""
    return "" if found.string[max(0, found.start() - 1) : found.start()] == "?" else "."
