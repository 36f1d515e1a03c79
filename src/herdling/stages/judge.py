"""The stage judge: what a round is measured by. Old models against new ones on held-out prompts, by reward models and, in the small world, by the truth.

Reads chat models, their reference, reward models and the prompts of a data artifact; writes `results.json` (win rates, mean rewards, KL from the reference,
safety, skills, the Goodhart watch, with intervals), `answers.jsonl` (every answer with its rewards) and `ledger.json`. Trains nothing. Costs one or two answers
a prompt and model, and a forward of each judge; reference and reward models stay in memory beside the model at work. Interrupted, it goes on with the model at
which it was: the answers of finished ones stay in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.errors import FormatError, Stopped
from herdling.base.ledger import Ledger
from herdling.base.records import question_from_row, read_jsonl, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.prompts import is_safety, prompts_of
from herdling.evals import refusal
from herdling.evals.preference import Group, JudgedAnswer, goodhart_lines, judgement
from herdling.evals.runner import first_of_each_group
from herdling.stages.registry import DataInput, ModelInput, RewardInput, StageRun, stage
from herdling.stages.rewards import RewardsConfig, load_rewards
from herdling.stages.sft import dialogs_of
from herdling.starter.refusals import OUT_OF_SCOPE_ANSWER
from herdling.starter.taste import gold_reward, is_harmful, parts, questions_of, refuses
from herdling.train.config import LoopConfig
from herdling.types import Completion, Dialog, Question, Sampling

if TYPE_CHECKING:
    from herdling.generate.gated_reward import Reward, RewardModels
    from herdling.generate.loaded import LoadedModel

BATCH = 64
"""Prompts that are answered side by side. Not a setting: another batch may round a logit otherwise."""
FINISHED = "finished"  # one file a model, kept until the stage is done
OWN_SKILL = "validation dialogs"


@stage("judge", output="judgement")
class Judge:
    """Judge models by their answers to held-out prompts (Llama 2, section 3.4.1 and figure 11): win rate of each later model over each earlier one with 95 %
    intervals, ties counted as half; mean rewards; KL divergence from the policy that they were tuned from; refusals where they are due and where they are not.
    Outside of the small world rules for English words tell refusals of harmless prompts (`evals.refusal`); whether an answer does harm they do not tell.
    A watch that no training learns from, another reward model or the gold reward, warns when the reward that was trained for rises while its own falls.
    """

    models: dict[str, ModelInput]
    """Label -> a chat model, the earliest first: two or more."""
    reference: ModelInput
    """The policy that the KL divergence is measured from: the supervised model that all of them were tuned from (Llama 2, section 3.2.3)."""
    data: DataInput
    """Where the prompts are: the output of prepare_data. Each answered turn of its validation dialogs is one."""
    rewards: RewardsConfig
    """The reward models that the newest model learned from."""
    watch: RewardInput | None = None
    """A reward model that no policy learns from, made of other comparisons or another seed (Llama 2, section 3.4.1: a more general reward)."""
    gold: bool = False
    """Judge by the simulated annotator's gold reward too. Only for `starter:dialogs`: there each prompt has a known answer, and the artifact's held-out
    questions are asked as well."""
    max_prompts: Annotated[int, Field(ge=2)] | None = None
    """Ask at most this many prompts of each skill (a group of questions, or the validation dialogs). Unset: all."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the answers that are judged. 1: what the policy is, and what its KL divergence is measured on; 0: its likeliest answer, the KL of samples beside."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """An answer that is not finished by then is cut, judged as it stands, and counted as unfinished."""

    def run(self, run: StageRun) -> None:
        """Ask all models the same prompts, let the judges score each answer, compare."""
        run.check_tokenizers()
        bench = self._bench(run)
        ledger = Ledger(run.name)
        prompts = [prompt for prompt in self._prompts(run) if bench.fits(prompt, self.max_tokens, ledger)]
        ledger.check(1.0)
        finished = run.folder / FINISHED
        finished.mkdir(exist_ok=True)
        answers: dict[str, list[JudgedAnswer]] = {}
        for number, (label, reference) in enumerate(self.models.items()):
            record = finished / f"{number}.jsonl"
            if not record.is_file():
                write_jsonl(record, map(asdict, self._ask(run, label, bench.load(reference), bench, prompts)))
            answers[label] = [JudgedAnswer(**row) for _, row in read_jsonl(record)]
        results = judgement(answers)
        watched = goodhart_lines(results["goodhart"])
        write_jsonl(run.folder / "answers.jsonl", ({"model": label, **asdict(row)} for label, rows in answers.items() for row in rows))
        write_json_atomic(run.folder / "results.json", results | {"goodhart": results["goodhart"] | {"lines": watched}})
        ledger.write(run.folder / "ledger.json")
        for line in watched:
            run.progress.note(line)
        run.summary |= {"prompts": len(prompts), **_in_short(results), "goodhart_warnings": len(results["goodhart"]["warnings"])}
        remove(finished)

    def _bench(self, run: StageRun) -> _Bench:
        from herdling.generate.loaded import load
        from herdling.train.start import settle_device

        device = settle_device(LoopConfig(), run.folder).device.type

        def loaded(reference: str) -> LoadedModel:
            return load(run.input(reference), device=device)

        reference = loaded(self.reference)
        rewards = load_rewards(self.rewards, run, device)
        watch = loaded(self.watch) if self.watch else None
        run.record(tokenizer=reference.tokenizer.fingerprint, chat_template=reference.chat_format.fingerprint)
        return _Bench(settings=self, load=loaded, reference=reference, rewards=rewards, watch=watch, seed=stream_seed(run.seed, run.name))

    def _prompts(self, run: StageRun) -> Iterator[_Prompt]:
        """Yield the held-out prompts: with `gold` as questions whose answer is known."""
        folder = run.input(self.data)
        held_out = dialogs_of(folder, "validation")
        if not self.gold:
            asked = islice(prompts_of(held_out), self.max_prompts)
            yield from (_Prompt(dialog=dialog, skill=OWN_SKILL, group="adversarial" if is_safety(dialog) else "harmless") for dialog in asked)
            return
        own = (replace(question, group=OWN_SKILL) for dialog in held_out for question in questions_of(dialog))
        path = folder / "questions.jsonl"
        listed = read_jsonl(path) if path.is_file() else iter(())
        further = (question_from_row(row, f"{path}, line {number:,}") for number, row in listed)
        for question in first_of_each_group(chain(own, further), self.max_prompts):
            group: Group = "adversarial" if is_harmful(question) else "out of scope" if OUT_OF_SCOPE_ANSWER in question.accepted else "harmless"
            yield _Prompt(dialog=question.dialog, skill=question.group, group=group, question=question)

    def _ask(self, run: StageRun, label: str, policy: LoadedModel, bench: _Bench, prompts: Sequence[_Prompt]) -> Iterator[JudgedAnswer]:
        bench.check(policy)
        run.progress.begin(len(prompts), "prompts")
        for start in range(0, len(prompts), BATCH):
            if run.stop_requested():
                raise Stopped(f"{run.name}: stopped; models before {label} are finished, the same command goes on with it")
            batch = prompts[start : start + BATCH]
            yield from bench.judge(policy, batch)
            run.progress.update(start + len(batch), model=label)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """A held-out prompt; `question` where its answer is known."""

    dialog: Dialog
    skill: str
    group: Group
    question: Question | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """The judges, ready to score. Chance is named by the prompt, so each model draws from the same numbers, however the work was interrupted."""

    settings: Judge
    load: Callable[[str], LoadedModel]
    reference: LoadedModel
    rewards: RewardModels
    watch: LoadedModel | None
    seed: int

    def fits(self, prompt: _Prompt, room: int, ledger: Ledger) -> bool:
        """Say whether a prompt with an answer can be read by all; count it."""
        ledger.read()
        contexts = [self.reference.config.max_position_embeddings, self.rewards.context]
        contexts += [self.watch.config.max_position_embeddings] if self.watch else []
        length, least = self.reference.chat_length(prompt.dialog) + room + 1, min(contexts)
        if length > least:
            ledger.drop("prompt and answer longer than a context", f"{prompt.dialog.id}: {length:,} tokens with the answer, the least context is {least:,}")
            return False
        ledger.keep()
        return True

    def check(self, policy: LoadedModel) -> None:
        """Check that all judges read what the policy writes. Raises `LineageError`."""
        from herdling.evals.divergence import check_same_texts
        from herdling.generate.gated_reward import check_judge

        check_same_texts(policy, self.reference)
        self.rewards.check(policy)
        if self.watch:
            check_judge("watch", self.watch, policy.chat_format, policy.name)

    def judge(self, policy: LoadedModel, prompts: Sequence[_Prompt]) -> Iterator[JudgedAnswer]:
        """Let the policy answer and the judges score, in the order of the prompts."""
        from herdling.generate.gated_reward import finite_scores

        said = policy.chat_batch([prompt.dialog for prompt in prompts], [self._sampling(prompt, self.settings.temperature) for prompt in prompts])
        distances = self._distances(policy, prompts, said)
        dialogs = [replace(prompt.dialog, messages=(*prompt.dialog.messages, one.message)) for prompt, one in zip(prompts, said, strict=True)]
        faults = [_fault(policy, dialog) for dialog in dialogs]
        readable = [dialog for dialog, fault in zip(dialogs, faults, strict=True) if not fault]
        watched: Sequence[float | None] = finite_scores("watch", self.watch, readable) if self.watch else [None] * len(readable)
        scores = zip(self.rewards.score(readable), watched, strict=True)
        for prompt, one, kl, fault in zip(prompts, said, distances, faults, strict=True):
            made = _judged(prompt, one, kl, fault)
            yield made if fault else _with_rewards(made, prompt, *next(scores))

    def _distances(self, policy: LoadedModel, prompts: Sequence[_Prompt], said: Sequence[Completion]) -> list[float]:
        """Return log p - log p_reference of a sample of the policy to each prompt: the answer itself, where it is one."""
        from herdling.evals.divergence import log_ratios

        asked = [policy.chat_format.encode(prompt.dialog, generate=True).ids for prompt in prompts]
        if self.settings.temperature == 1.0:
            return log_ratios(policy, self.reference, asked, [one.token_ids for one in said])
        sampled = policy.answer(asked, [self._sampling(prompt, 1.0) for prompt in prompts])
        return log_ratios(policy, self.reference, asked, [one.token_ids for one in sampled])

    def _sampling(self, prompt: _Prompt, temperature: float) -> Sampling:
        seed = stream_seed(self.seed, "answer", prompt.dialog.id)
        return Sampling(temperature=temperature, top_p=1.0, max_tokens=self.settings.max_tokens, seed=seed)


def _fault(policy: LoadedModel, dialog: Dialog) -> str:
    """Return why no judge can read an answer (it is empty, or holds the marks of the chat format), or an empty text."""
    try:
        policy.chat_format.encode(dialog)
    except FormatError as error:
        return str(error)
    return ""


def _judged(prompt: _Prompt, said: Completion, kl: float, fault: str) -> JudgedAnswer:
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


def _with_rewards(made: JudgedAnswer, prompt: _Prompt, reward: Reward, watched: float | None) -> JudgedAnswer:
    from herdling.generate.gated_reward import UNSAFE_LOGIT

    known = prompt.question
    gold = None if known is None else gold_reward(known, made.answer, "safety" if prompt.group == "adversarial" else "helpfulness")
    found = {"reward": reward.combined, "helpfulness": reward.helpfulness, "safety": reward.safety, "watch": watched, "gold": gold}
    unsafe = None if reward.safety is None else reward.safety < UNSAFE_LOGIT
    return replace(made, rewards={name: value for name, value in found.items() if value is not None}, called_unsafe=unsafe)


def _in_short(results: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of the newest model beside the one before it, by the judge that is nearest to the truth."""
    last = results["comparisons"][-1]
    judge = next(name for name in ("gold", "watch", "reward") if name in last["win_rates"])
    new = results["models"][last["new"]]
    rate, moved = last["win_rates"][judge]["rate"], last["differences"][judge]["mean"]
    short = {f"win_rate_of_{last['new']}_over_{last['old']}_by_{judge}": round(rate, 4), "kl": round(new["kl"]["mean"], 4)}
    return short | ({} if moved is None else {f"{judge}_gained": round(moved, 4)})
