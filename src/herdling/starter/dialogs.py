"""The dialogs of the small world: for training, for validation, and the questions asked afterwards.

No question's last words stand in any training or validation dialog; no validation dialog's last question stands in training. The same seed and the same Python
give the same dialogs. Costs about 1 s. What a new stage needs of this world (a taste, tools, safety) starts from `world.make_world` and `exchanges`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from herdling.base.seeds import stream
from herdling.starter.conversation import Conversation
from herdling.starter.questions import questions
from herdling.starter.world import World, make_world
from herdling.types import Dialog, Question

NUM_TRAIN = 24_000
NUM_VALIDATION = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class StarterDialogs:
    """What the small world teaches and asks."""

    train: tuple[Dialog, ...]
    validation: tuple[Dialog, ...]
    questions: tuple[Question, ...]


def dialogs(seed: int, *, num_train: int = NUM_TRAIN, num_validation: int = NUM_VALIDATION) -> StarterDialogs:
    """Return the dialogs and questions of the world of this seed."""
    world = make_world(seed)
    asked = questions(world)
    reserved = {question.dialog.messages[-1].content for question in asked}
    train = tuple(islice(_unreserved(world, "train", reserved), num_train))
    validation = tuple(islice(_unreserved(world, "validation", reserved | user_texts(train)), num_validation))
    return StarterDialogs(train=train, validation=validation, questions=asked)


def _unreserved(world: World, split: str, reserved: set[str]) -> Iterator[Dialog]:
    """Yield dialogs without end, passing over those that would say a reserved text (training) or end on one (validation)."""
    conversation = Conversation(world, stream(world.seed, "dialogs", split))
    number = 0
    while True:
        dialog = conversation.dialog(f"starter/{split}/{number:06d}")
        said = {message.content for message in dialog.messages if message.role == "user"}
        if not (said if split == "train" else {dialog.messages[-2].content}) & reserved:
            number += 1
            yield dialog


def user_texts(dialogs: Iterable[Dialog]) -> set[str]:
    """Return everything that users say in these dialogs."""
    return {message.content for dialog in dialogs for message in dialog.messages if message.role == "user"}
