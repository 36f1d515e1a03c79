"""How good, how hard and about what a dialog is, by the word of a judge model: grades from 1 to 3, intentions and a topic (Llama 3, section 4.2.3).

The paper prints the scales, not the prompts; these are ours. An answer in which no grade can be found is no grade: it is counted, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from herdling.generate.generator import Generator
from herdling.types import Dialog, Message, Sampling

HIGHEST = 3
ASPECTS = ("how accurate it is", "how well it follows the instruction", "its tone and presentation")
QUALITY = "Grade the assistant's last answer by {aspect}: 1 is poor, 2 is fair, 3 is good. Say the number only.\n\n{dialog}"
DIFFICULTY = "Grade how hard the user's last request is: 1 is easy, 2 is medium, 3 is hard. Say the number only.\n\n{dialog}"
INTENTIONS = "List what the user wants in the last request, one intention a line and nothing else.\n\n{dialog}"
TOPIC = "Which of these topics is the conversation about: {topics}? Say the topic only.\n\n{dialog}"
NO_TOPIC = "none of the topics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a judge said of a dialog; a grade that could not be read is None."""

    quality: float | None
    """The mean of the three grades, 1 to 3."""
    difficulty: int | None
    intentions: int
    topic: str


def questions(dialog: Dialog, topics: Sequence[str] = ()) -> list[tuple[str, int]]:
    """Return what a judge is asked about a dialog, each with the most tokens that the answer may have: three aspects, difficulty, intentions, topic."""
    text = transcript(dialog)
    asked = [(QUALITY.format(aspect=aspect, dialog=text), 8) for aspect in ASPECTS]
    asked += [(DIFFICULTY.format(dialog=text), 8), (INTENTIONS.format(dialog=text), 128)]
    return [*asked, (TOPIC.format(topics=", ".join(topics), dialog=text), 16)] if topics else asked


def judge(model: Generator, dialogs: Sequence[Dialog], topics: Sequence[str] = ()) -> list[Label]:
    """Return the label of each dialog; greedy, so that the same judge says the same again."""
    asked = [question for dialog in dialogs for question in questions(dialog, topics)]
    prompts = [Dialog(id=str(number), messages=(Message(role="user", content=text),)) for number, (text, _) in enumerate(asked)]
    samplings = [Sampling(temperature=0.0, max_tokens=most) for _, most in asked]
    said = [answer.message.content for answer in model.chat_batch(prompts, samplings)] if prompts else []
    each = len(said) // max(1, len(dialogs))
    return [_label(said[number * each : (number + 1) * each], topics) for number in range(len(dialogs))]


def _label(said: Sequence[str], topics: Sequence[str]) -> Label:
    grades = [grade for text in said[: len(ASPECTS)] if (grade := read_grade(text)) is not None]
    difficulty, intentions, *topic = said[len(ASPECTS) :]
    return Label(
        quality=sum(grades) / len(grades) if len(grades) == len(ASPECTS) else None,
        difficulty=read_grade(difficulty),
        intentions=num_lines(intentions),
        topic=read_topic(topic[0], topics) if topic else NO_TOPIC,
    )


def transcript(dialog: Dialog) -> str:
    """Return a dialog as plain text, a speaker a line."""
    return "\n".join(f"{message.role}: {message.content}" for message in dialog.messages)


def read_grade(said: str) -> int | None:
    """Return the first whole number of an answer, if it is one of the scale; None for anything else."""
    found = re.search(r"\d+", said)
    return int(found[0]) if found and 1 <= int(found[0]) <= HIGHEST else None


def read_topic(said: str, topics: Sequence[str]) -> str:
    """Return the topic that an answer names first; `NO_TOPIC` where it names none."""
    places = {topic: said.lower().find(topic.lower()) for topic in topics}
    named = {topic: place for topic, place in places.items() if place >= 0}
    return min(named, key=named.__getitem__) if named else NO_TOPIC


def num_lines(said: str) -> int:
    """Return how many lines say something."""
    return sum(bool(line.strip()) for line in said.splitlines())
