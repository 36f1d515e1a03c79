"""The word of a judge: grades are read and never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from herdling.evals.quality import Label, judge, num_lines, questions, read_grade, read_topic, transcript
from herdling.types import Completion, Dialog, Message, Sampling
from tests.data.toy_tokens import dialog


@dataclass
class Judge:
    """Says of each question what it was told to say about it."""

    says: dict[str, str]
    name: str = "judge"
    fingerprint: str = "judge"
    asked: list[tuple[str, Sampling]] = field(default_factory=list)

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        assert not isinstance(sampling, Sampling)
        self.asked += [(one.messages[0].content, how) for one, how in zip(dialogs, sampling, strict=True)]
        found = (next((said for word, said in self.says.items() if word in one.messages[0].content), "") for one in dialogs)
        return [Completion(message=Message(role="assistant", content=said), stop_reason="end_of_turn") for said in found]


SAYS = {
    "accurate": "3",
    "follows the instruction": "Grade: 2.",
    "tone": "I say 1",
    "how hard": "3",
    "List what": "know it\n\nuse it\n",
    "Which of": "It is Maths.",
}


def test_a_dialog_is_labelled_by_what_the_judge_says() -> None:
    asked = Judge(SAYS)
    assert judge(asked, [dialog("a", "b"), dialog("c", "d")], ("Code", "maths")) == [Label(quality=2.0, difficulty=3, intentions=2, topic="maths")] * 2
    assert len(asked.asked) == 2 * 6
    assert all(how.temperature == 0 for _, how in asked.asked)
    assert "user: a\nassistant: b" in asked.asked[0][0]
    assert judge(asked, [dialog("a", "b")])[0].topic == "none of the topics"
    assert judge(asked, []) == []


def test_a_grade_that_cannot_be_read_is_none_and_makes_no_mean() -> None:
    said = judge(Judge({**SAYS, "tone": "good", "how hard": "very"}), [dialog("a", "b")])[0]
    assert (said.quality, said.difficulty) == (None, None)


@pytest.mark.parametrize(("said", "grade"), [("3", 3), ("Grade: 1 of 3", 1), ("4", None), ("10", None), ("0", None), ("good", None), ("", None)])
def test_a_grade_is_the_first_number_of_the_answer_if_it_is_of_the_scale(said: str, grade: int | None) -> None:
    assert read_grade(said) == grade


def test_a_topic_is_the_first_that_is_named() -> None:
    assert read_topic("Not code but Maths, I think code.", ("maths", "Code")) == "Code"
    assert read_topic("Cooking.", ("maths", "code")) == "none of the topics"


def test_small_things() -> None:
    assert num_lines("a\n \nb") == 2
    assert transcript(dialog("a", "b", "c", "d")) == "user: a\nassistant: b\nuser: c\nassistant: d"
    assert [most for _, most in questions(dialog("a", "b"), ("x",))] == [8, 8, 8, 8, 128, 16]
