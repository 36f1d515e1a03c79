"""Retention: the instruction is given once, the model reads its own answers, and each verdict is counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from herdling.data.constraints import Constraint, Instruction
from herdling.evals.retention import Case, Model, by_constraint, measure, model_judge, tally
from herdling.types import Completion, Dialog, Message, Sampling
from tests.data.toy_tokens import dialog

LOUD = Constraint(kind="form", value="loud", full="Be loud.", short="Loud.", pattern="!$", probes=(), held_out=False)
NEW = Constraint(kind="form", value="soft", full="Be soft.", short="Soft.", pattern="~$", probes=(), held_out=True)
HOBBY = Constraint(kind="hobby", value="chess", full="You like chess.", short="Hobby: chess.", pattern="chess", probes=("What do you like?",), held_out=False)
SPEAK = Constraint(kind="language", value="French", full="Speak French.", short="French.", pattern="", probes=(), held_out=False)


@dataclass
class Keeper:
    """Ends its answers as it was told in the last `memory` messages of the user (None: in any), else with a point; remembers what it was asked."""

    memory: int | None = None
    mute_at: int = 0
    name: str = "keeper"
    fingerprint: str = "keeper"
    seen: list[Dialog] = field(default_factory=list)

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        self.seen += dialogs
        return [Completion(message=Message(role="assistant", content=self.answer(one)), stop_reason="end_of_turn") for one in dialogs]

    def answer(self, asked: Dialog) -> str:
        said = [message.content for message in asked.messages if message.role == "user"]
        if len(said) == self.mute_at:
            return ""
        heard = " ".join(said[-self.memory :] if self.memory else said)
        end = "!" if "Be loud." in heard else "~" if "Be soft." in heard else "."
        return f"I like chess{end}" if said[-1].endswith("What do you like?") and "chess" in heard else f"{len(said)}{end}"


def case(constraint: Constraint, turns: int = 4, **answers: str) -> Case:
    texts = [text for turn in range(1, turns + 1) for text in (f"q{turn}", answers.get(f"a{turn}", f"a{turn}."))]
    return Case(id=constraint.value, instruction=Instruction(constraints=(constraint,)), dialog=dialog(*texts))


def model(keeper: Keeper, context: int = 100) -> Model:
    """A model whose context is counted in messages."""
    return Model(label="m", generator=keeper, fits=lambda one: len(one.messages) < context, max_tokens=8)


def test_a_model_that_remembers_keeps_to_it_and_one_that_forgets_does_so_when_reminded() -> None:
    for memory, kept in ((None, [1, 1, 1]), (2, [1, 1, 0]), (1, [1, 0, 0])):
        found = tally(measure(model(Keeper(memory)), [case(LOUD)], (1, 2, 4)))["trained"]
        assert [found["once"][turn]["obeyed"] for turn in "124"] == kept
        assert [found["reminded"][turn]["obeyed"] for turn in "124"] == [1, 1, 1]


def test_the_instruction_stands_in_the_first_message_only_and_the_answers_before_are_the_models_own() -> None:
    keeper = Keeper()
    list(measure(model(keeper), [case(LOUD)], (3,)))
    last = [one for one in keeper.seen if len(one.messages) == 5]
    assert [message.content for message in last[0].messages] == ["Be loud. q1", "1!", "q2", "2!", "q3"]
    assert [message.content for message in last[1].messages] == ["Be loud. q1", "1!", "q2", "2!", "Be loud. q3"]  # reminded
    assert len(keeper.seen) == 2 + 2  # a turn each, and both ways where it is measured


def test_new_constraints_are_counted_apart() -> None:
    found = tally(measure(model(Keeper(1)), [case(LOUD), case(NEW), case(NEW)], (2,)))
    assert found["trained"]["once"]["2"]["total"] == 1
    assert found["new"]["reminded"]["2"] == {"obeyed": 2, "total": 2, "share": 1.0, "not_counted": {}, "low": pytest.approx(0.342, abs=1e-3), "high": 1.0}


def test_a_dialog_beyond_the_context_is_counted_apart_and_not_as_broken() -> None:
    found = tally(measure(model(Keeper(), context=5), [case(LOUD)], (2, 3, 4)))["trained"]["once"]
    assert (found["2"]["obeyed"], found["2"]["total"]) == (1, 1)
    for turn in "34":
        assert (found[turn]["total"], found[turn]["share"], found[turn]["not_counted"]) == (0, None, {"longer than the context": 1})


def test_a_model_that_falls_silent_has_broken_it_from_there_on() -> None:
    found = tally(measure(model(Keeper(mute_at=2)), [case(LOUD)], (1, 2, 4)))["trained"]["once"]
    assert [(found[turn]["obeyed"], found[turn]["total"]) for turn in "124"] == [(1, 1), (0, 1), (0, 1)]


def test_a_question_whose_usual_answer_would_pass_says_nothing() -> None:
    found = tally(measure(model(Keeper()), [case(LOUD, a2="Yes!"), case(LOUD)], (2,)))["trained"]["once"]["2"]
    assert (found["total"], found["not_counted"]) == (1, {"any answer keeps to it": 1})


def test_a_probe_is_asked_on_the_side_and_leaves_the_dialog_as_it_is() -> None:
    keeper = Keeper()
    rows = list(measure(model(keeper), [case(HOBBY)], (2, 3)))
    assert [row["answer"] for row in rows if row["asked"] == "once"] == ["I like chess.", "I like chess."]
    assert all(row["obeyed"] for row in rows)
    longest = max(keeper.seen, key=lambda one: len(one.messages))
    assert [message.content for message in longest.messages][:4] == ["You like chess. q1", "1.", "q2", "2."]
    assert not tally(measure(model(Keeper(1)), [case(HOBBY)], (2,)))["trained"]["once"]["2"]["obeyed"]


def test_what_no_program_can_tell_is_left_to_the_judge() -> None:
    without = tally(measure(model(Keeper()), [case(SPEAK)], (2,)))["trained"]["once"]["2"]
    assert (without["total"], without["not_counted"]) == (0, {"no program can tell": 1})
    asked: list[tuple[Instruction, str]] = []

    def judge(pairs: Sequence[tuple[Instruction, str]]) -> list[bool]:
        asked.extend(pairs)
        return [True for _ in pairs]

    found = tally(measure(model(Keeper()), [case(SPEAK), case(LOUD)], (2,), judge))["trained"]["once"]["2"]
    assert (found["obeyed"], found["total"]) == (2, 2)
    assert [(instruction.text, answer) for instruction, answer in asked] == [("Speak French.", "2."), ("Speak French.", "2.")]


def test_a_model_judge_takes_only_a_clear_yes() -> None:
    @dataclass
    class Judge(Keeper):
        def answer(self, asked: Dialog) -> str:
            text = asked.messages[-1].content
            assert "Instruction: Be loud." in text
            return {"a!": " Yes, it does.", "b": "No.", "c": "Perhaps yes."}[text.rsplit("Answer: ", 1)[1]]

    pairs = [(Instruction(constraints=(LOUD,)), answer) for answer in ("a!", "b", "c")]
    assert list(model_judge(Judge())(pairs)) == [True, False, False]


def test_each_constraint_is_counted_by_turn() -> None:
    rows = list(measure(model(Keeper(2)), [case(LOUD), case(LOUD, a2="Yes!"), case(NEW)], (2, 3)))
    assert by_constraint(rows) == {"form: loud": {"2": [1, 1], "3": [0, 2]}, "form: soft": {"2": [1, 1], "3": [0, 1]}}
