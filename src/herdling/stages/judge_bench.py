"""The work within judge: each model answers the prompts, the reference and the judges read what was said, one of them in memory at a time.

All chance is named by the prompt, and what a model makes of a chunk of prompts is saved as rows of plain data, so a chunk is the same whenever it is made. What
is known before any weights are read (chat format, context) is a `Reader`: what does not belong together is refused before anything is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from herdling.base.comparison_records import completion_from_row, completion_to_row
from herdling.base.errors import FormatError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream_seed
from herdling.evals import refusal
from herdling.evals.preference import Group, JudgedAnswer
from herdling.stages.chunks import Chunked
from herdling.stages.registry import StageRun
from herdling.starter.taste import gold_reward, parts, refuses
from herdling.train.config import LoopConfig
from herdling.types import Completion, Dialog, Question, Sampling

if TYPE_CHECKING:
    from herdling.generate.gated_reward import Reward
    from herdling.generate.loaded import LoadedModel
    from herdling.stages.judge import Judge
    from herdling.tokenizer.base import Tokenizer
    from herdling.tokenizer.chat_format import ChatFormat

BATCH = 64
"""Prompts that are answered side by side. Not a setting: another batch may round a logit otherwise."""
T = TypeVar("T")
Row = dict[str, Any]
Make = Callable[["LoadedModel", Sequence[T]], list[Row]]
Asked = tuple["Prompt", Row]
"""A prompt with what one model said to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A held-out prompt; `question` where its answer is known."""

    dialog: Dialog
    skill: str
    group: Group
    question: Question | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A model that is known by its chat format and context alone: its weights are read when it is its turn."""

    name: str
    place: Path
    chat_format: ChatFormat
    context: int

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the chat format."""
        return self.chat_format.tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The models and their judges. Chance is named by the prompt, so each model draws from the same numbers, however the work was interrupted."""

    settings: Judge
    policies: Mapping[str, Reader]
    reference: Reader
    judges: Mapping[str, Reader]
    """Name -> reward model: helpfulness, safety, watch."""
    seed: int

    def fits(self, prompt: Prompt, room: int, ledger: Ledger) -> bool:
        """Say whether a prompt with an answer can be read by all; count it."""
        ledger.read()
        length = len(self.reference.chat_format.encode(prompt.dialog, generate=True).ids) + room + 1
        least = min(self.reference.context, *(judge.context for judge in self.judges.values()))
        if length > least:
            ledger.drop("prompt and answer longer than a context", f"{prompt.dialog.id}: {length:,} tokens with the answer, the least context is {least:,}")
            return False
        ledger.keep()
        return True

    def judge(self, run: StageRun, prompts: Sequence[Prompt]) -> dict[str, list[JudgedAnswer]]:
        """Let every model answer, the reference and the judges read what was said; one of them at a time. In the order of the prompts."""
        passes = len(self.policies) * (2 + len(self.judges))
        run.progress.begin(passes * len(prompts), "prompts")
        said = []
        for number, policy in enumerate(self.policies.values()):
            said += self._pass(run, policy, f"answers-{number}", [prompts], self._answers, number)
        asked = [list(zip(prompts, rows, strict=True)) for rows in said]
        reference = self._pass(run, self.reference, "reference", asked, self._reference_logprobs, len(said))
        scores = {
            name: self._pass(run, judge, name, asked, partial(self._scores, name), (2 + place) * len(said))
            for place, (name, judge) in enumerate(self.judges.items())
        }
        return {
            label: [
                _whole(prompt, row, reference[number][place]["logprob"], {name: rows[number][place]["score"] for name, rows in scores.items()})
                for place, (prompt, row) in enumerate(asked[number])
            ]
            for number, label in enumerate(self.policies)
        }

    def _pass(self, run: StageRun, reader: Reader, part: str, of_all: Sequence[Sequence[T]], make: Make[T], before: int) -> list[list[Row]]:
        """Give what one model reads to it, part after part. It is loaded if anything is left to do, and let go behind it."""
        model: LoadedModel | None = None

        def made(items: Sequence[T]) -> list[Row]:
            nonlocal model
            if model is None:
                model = _load(reader.place, run)
            return make(model, items)

        parts = []
        for number, items in enumerate(of_all):
            done = (before + number) * len(items)
            parts.append(list(Chunked(run=run, part=f"{part}-{number}", items=items, size=BATCH, make=made, done_before=done)))
        return parts

    def _answers(self, policy: LoadedModel, prompts: Sequence[Prompt]) -> list[Row]:
        """Return what a policy says, and the log-probability that it gives to a sample of its own: to the answer itself, where that is one."""
        from herdling.evals.divergence import answer_logprobs

        said = policy.chat_batch([prompt.dialog for prompt in prompts], [self._sampling(prompt, self.settings.temperature) for prompt in prompts])
        asked = [policy.chat_format.encode(prompt.dialog, generate=True).ids for prompt in prompts]
        sampled: Sequence[Sequence[int]] = [one.token_ids for one in said]
        if self.settings.temperature != 1.0:
            sampled = [one.token_ids for one in policy.answer(asked, [self._sampling(prompt, 1.0) for prompt in prompts])]
        own = answer_logprobs(policy, asked, sampled)
        rows = []
        for prompt, one, ids, logprob in zip(prompts, said, sampled, own, strict=True):
            fault = _fault(policy, replace(prompt.dialog, messages=(*prompt.dialog.messages, one.message)))
            rows.append({"said": completion_to_row(one), "sampled": list(ids), "logprob": logprob, "fault": fault})
        return rows

    def _reference_logprobs(self, reference: LoadedModel, asked: Sequence[Asked]) -> list[Row]:
        from herdling.evals.divergence import answer_logprobs

        prompts = [reference.chat_format.encode(prompt.dialog, generate=True).ids for prompt, _ in asked]
        return [{"logprob": one} for one in answer_logprobs(reference, prompts, [row["sampled"] for _, row in asked])]

    def _scores(self, name: str, judge: LoadedModel, asked: Sequence[Asked]) -> list[Row]:
        """Return the score of each answer that can be read, None for the others."""
        from herdling.generate.gated_reward import finite_scores

        dialogs = [
            replace(prompt.dialog, messages=(*prompt.dialog.messages, completion_from_row(row["said"], prompt.dialog.id).message))
            for prompt, row in asked
            if not row["fault"]
        ]
        scores = iter(finite_scores(name, judge, dialogs))
        return [{"score": None if row["fault"] else next(scores)} for _, row in asked]

    def _sampling(self, prompt: Prompt, temperature: float) -> Sampling:
        seed = stream_seed(self.seed, "answer", prompt.dialog.id)
        return Sampling(temperature=temperature, top_p=1.0, max_tokens=self.settings.max_tokens, seed=seed)


def _load(place: Path, run: StageRun) -> LoadedModel:
    from herdling.generate.loaded import load
    from herdling.train.start import settle_device

    return load(place, device=settle_device(LoopConfig(), run.folder).device.type)


def _whole(prompt: Prompt, row: Row, reference: float, scores: Mapping[str, float | None]) -> JudgedAnswer:
    """Put together what was said of one answer."""
    from herdling.generate.gated_reward import gated, is_tagged

    made = _judged(prompt, completion_from_row(row["said"], prompt.dialog.id), row["logprob"] - reference, row["fault"])
    helpful = scores["helpfulness"]
    return made if helpful is None else _with_rewards(made, prompt, gated(helpful, scores.get("safety"), is_tagged(prompt.dialog)), scores.get("watch"))


def _fault(policy: LoadedModel, dialog: Dialog) -> str:
    """Return why no judge can read an answer (it is empty, or holds the marks of the chat format), or an empty text."""
    try:
        policy.chat_format.encode(dialog)
    except FormatError as error:
        return str(error)
    return ""


def _judged(prompt: Prompt, said: Completion, kl: float, fault: str) -> JudgedAnswer:
    known = prompt.question
    calls = (f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})" for call in said.message.tool_calls)
    text = "".join((said.message.content, *calls))
    return JudgedAnswer(
        id=prompt.dialog.id,
        skill=prompt.skill,
        group=prompt.group,
        question=prompt.dialog.messages[-1].content,
        answer=text,
        stop_reason=said.stop_reason,
        num_tokens=len(said.token_ids),
        kl=kl,
        fault=fault,
        refused=refusal.refuses(text) if known is None else refuses(text),
        correct=None if known is None else bool(parts(known, text)["correct"]),
    )


def _with_rewards(made: JudgedAnswer, prompt: Prompt, reward: Reward, watched: float | None) -> JudgedAnswer:
    from herdling.generate.gated_reward import UNSAFE_LOGIT

    known = prompt.question
    gold = None if known is None else gold_reward(known, made.answer, "safety" if prompt.group == "adversarial" else "helpfulness")
    found = {"reward": reward.combined, "helpfulness": reward.helpfulness, "safety": reward.safety, "watch": watched, "gold": gold}
    unsafe = None if reward.safety is None else reward.safety < UNSAFE_LOGIT
    return replace(made, rewards={name: value for name, value in found.items() if value is not None}, called_unsafe=unsafe)
