"""Does an instruction hold that was given once? The evaluation of Llama 2, table 30, with programs in the place of people.

Each case is a dialog of many turns and an instruction, which stands in the first message only. The model under test answers every turn itself, so that it reads
its own answers as it would in use; at the turns that are measured a program looks whether the answer keeps to the instruction. Beside stands the same question
with the instruction repeated: what the model can do when it is reminded. A prompt beyond the context is counted apart and never as broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from herdling.base.intervals import wilson
from herdling.data.constraints import Instruction
from herdling.generate.generator import Generator
from herdling.types import Dialog, Message, Sampling

Row = dict[str, Any]
Judge = Callable[[Sequence[tuple[Instruction, str]]], Sequence[bool]]
"""Says of each answer whether it keeps to its instruction."""
Fits = Callable[[Dialog], bool]
"""Says whether a model's context holds a dialog with at least one token of the answer."""
PART = {False: "trained", True: "new"}
YES_OR_NO = "Does the answer keep to the instruction? Say yes or no.\n\nInstruction: {instruction}\n\nAnswer: {answer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An instruction and a dialog of plain turns, whose questions are asked; its answers are what the data says."""

    id: str
    instruction: Instruction
    dialog: Dialog

    @property
    def is_new(self) -> bool:
        """True where training named none of the constraints."""
        return all(one.held_out for one in self.instruction.constraints)

    def question(self, turn: int) -> Message:
        """Return what the user says in this turn, from 1; the first time with the instruction."""
        message = self.dialog.messages[2 * (turn - 1)]
        return _told(message, self.instruction) if turn == 1 else message

    def asked(self, turn: int) -> Message:
        """Return what is asked where the turn is measured: a question that brings the constraint to light, if its kind has one, else the user's own."""
        probes = self.instruction.constraints[0].probes
        if not probes:
            return self.question(turn)
        probe = Message(role="user", content=probes[turn % len(probes)])
        return _told(probe, self.instruction) if turn == 1 else probe

    def says_something(self, turn: int) -> bool:
        """False where the answer in the data keeps to the instruction as it is, so that nothing would be learned from one that does."""
        given = self.dialog.messages[2 * turn - 1].content
        return bool(self.instruction.constraints[0].probes) or not self.instruction.checkable or not self.instruction.obeyed(given)


@dataclass(slots=True)
class _Course:
    """A dialog with the model as far as it has come; `ended` says why it could not go on."""

    case: Case
    messages: tuple[Message, ...] = ()
    ended: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model under test: what the table calls it, what answers, and what its context holds."""

    label: str
    generator: Generator
    fits: Fits
    max_tokens: int

    def answers(self, courses: Sequence[_Course], questions: Sequence[Message]) -> list[str | None]:
        """Return the greedy answers to these questions, each behind the dialog so far; None where the context cannot hold the prompt."""
        prompts = [Dialog(id=course.case.id, messages=(*course.messages, question)) for course, question in zip(courses, questions, strict=True)]
        fits = [self.fits(prompt) for prompt in prompts]
        asked = [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit]
        said = iter(self.generator.chat_batch(asked, Sampling(temperature=0.0, max_tokens=self.max_tokens)) if asked else [])
        return [next(said).message.content if fit else None for fit in fits]


def measure(model: Model, cases: Sequence[Case], turns: Sequence[int], judge: Judge | None = None) -> Iterator[Row]:
    """Yield one row for each case, measured turn and way of asking, turn by turn; the cases are asked side by side, greedily.

    `obeyed` is None where the prompt did not fit the model's context, or the given answer keeps to the instruction as it is (`why` says which).
    """
    courses = [_Course(case) for case in cases]
    for turn in range(1, max(turns) + 1):
        if turn in turns:
            yield from _measured(model, courses, turn, judge)
        if turn == max(turns):
            return
        going = [course for course in courses if not course.ended]
        for course, answer in zip(going, model.answers(going, [course.case.question(turn) for course in going]), strict=True):
            if answer is None or not answer.strip():
                course.ended = "longer than the context" if answer is None else "an answer before was empty"
            else:
                course.messages = (*course.messages, course.case.question(turn), Message(role="assistant", content=answer))


def _measured(model: Model, courses: Sequence[_Course], turn: int, judge: Judge | None) -> Iterator[Row]:
    """Ask every case at this turn, as it stands and reminded."""
    going = [course for course in courses if not course.ended]
    for asked in ("once", "reminded"):
        questions = [course.case.asked(turn) for course in going]
        if asked == "reminded" and turn > 1:
            questions = [_told(question, course.case.instruction) for question, course in zip(questions, going, strict=True)]
        said = iter(model.answers(going, questions))
        answers = [None if course.ended == "longer than the context" else "" if course.ended else next(said) for course in courses]
        verdicts = _verdicts(courses, answers, turn, judge)
        for course, answer, (obeyed, why) in zip(courses, answers, verdicts, strict=True):
            yield {
                "model": model.label,
                "id": f"{course.case.id}/{turn}",
                "part": PART[course.case.is_new],
                "constraint": course.case.instruction.name,
                "instruction": course.case.instruction.text,
                "turn": turn,
                "asked": asked,
                "question": course.case.asked(turn).content,
                "given": course.case.dialog.messages[2 * turn - 1].content,
                "answer": answer,
                "obeyed": obeyed,
                "why": why,
            }


def _verdicts(courses: Sequence[_Course], answers: Sequence[str | None], turn: int, judge: Judge | None) -> list[tuple[bool | None, str]]:
    """Return (obeyed, why not counted) of each answer; the judge is asked where no program can tell."""
    found: list[tuple[bool | None, str]] = []
    open_cases: list[int] = []
    for index, (course, answer) in enumerate(zip(courses, answers, strict=True)):
        if answer is None:
            found.append((None, "longer than the context"))
        elif not course.case.says_something(turn):
            found.append((None, "any answer keeps to it"))
        elif course.case.instruction.checkable:
            found.append((bool(answer.strip()) and course.case.instruction.obeyed(answer), ""))
        else:
            found.append((None, "no program can tell"))
            open_cases.append(index)
    if judge is not None and open_cases:
        judged = judge([(courses[index].case.instruction, answers[index] or "") for index in open_cases])
        for index, obeyed in zip(open_cases, judged, strict=True):
            found[index] = (obeyed, "")
    return found


def model_judge(model: Generator) -> Judge:
    """Return a judge that asks a chat model for yes or no; anything but an answer that begins with yes is a no."""

    def judge(pairs: Sequence[tuple[Instruction, str]]) -> list[bool]:
        texts = [YES_OR_NO.format(instruction=instruction.text, answer=answer) for instruction, answer in pairs]
        dialogs = [Dialog(id=str(number), messages=(Message(role="user", content=text),)) for number, text in enumerate(texts)]
        said = model.chat_batch(dialogs, Sampling(temperature=0.0, max_tokens=8))
        return [one.message.content.strip().lower().startswith("yes") for one in said]

    return judge


def tally(rows: Iterable[Row]) -> dict[str, Any]:
    """Return part (trained, new) -> way of asking -> turn -> obeyed, total, share with its 95 % interval, and how many were not counted and why."""
    found: dict[str, Any] = {}
    for row in rows:
        turns = found.setdefault(row["part"], {}).setdefault(row["asked"], {})
        cell = turns.setdefault(str(row["turn"]), {"obeyed": 0, "total": 0, "not_counted": {}})
        if row["obeyed"] is None:
            cell["not_counted"][row["why"]] = cell["not_counted"].get(row["why"], 0) + 1
        else:
            cell["obeyed"] += row["obeyed"]
            cell["total"] += 1
    for ways in found.values():
        for turns in ways.values():
            for cell in turns.values():
                low, high = wilson(cell["obeyed"], cell["total"])
                cell |= {"share": cell["obeyed"] / cell["total"] if cell["total"] else None, "low": low, "high": high}
    return found


def by_constraint(rows: Iterable[Row]) -> dict[str, dict[str, list[int]]]:
    """Return constraint -> turn -> [obeyed, counted], where the instruction was given once."""
    found: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row["asked"] == "once" and row["obeyed"] is not None:
            counts = found.setdefault(row["constraint"], {}).setdefault(str(row["turn"]), [0, 0])
            counts[0] += row["obeyed"]
            counts[1] += 1
    return found


def _told(message: Message, instruction: Instruction) -> Message:
    return replace(message, content=instruction.before(message.content))
