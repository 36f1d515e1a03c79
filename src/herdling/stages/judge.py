"""The stage judge: what a round is measured by. Old models against new ones on held-out prompts, by reward models and, in the small world, by the truth.

Reads chat models, their reference, reward models and the prompts of a data artifact; writes `results.json` (win rates, mean rewards, KL from the reference,
safety, skills, the Goodhart watch, with intervals), `answers.jsonl` (every answer with its rewards) and `ledger.json`. Trains nothing. Costs one or two answers
a prompt and model, and a forward of each judge. One model is in memory at a time: each that answers, then the reference, then each judge, over the answers of
all (`judge_bench.py`). Answers and scores are saved in chunks: a stage that was killed goes on after the last whole one, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import Annotated, Any

from pydantic import Field

from herdling.base.artifact import model_in, write_json_atomic
from herdling.base.ledger import Ledger
from herdling.base.records import question_from_row, read_jsonl, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.prompts import is_safety, prompts_of
from herdling.evals.preference import Group, goodhart_lines, judgement
from herdling.evals.runner import first_of_each_group
from herdling.stages.chunks import remove_chunks
from herdling.stages.judge_bench import Bench, Prompt, Reader
from herdling.stages.registry import DataInput, ModelInput, RewardInput, StageRun, stage
from herdling.stages.rewards import RewardsConfig
from herdling.stages.sft import dialogs_of
from herdling.starter.refusals import OUT_OF_SCOPE_ANSWER
from herdling.starter.taste import is_harmful, questions_of
from herdling.train.config import LoopConfig

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
        from herdling.train.start import settle_device

        run.check_tokenizers()
        settle_device(LoopConfig(), run.folder)
        bench = self._bench(run)
        ledger = Ledger(run.name)
        prompts = [prompt for prompt in self._prompts(run) if bench.fits(prompt, self.max_tokens, ledger)]
        ledger.check(1.0)
        answers = bench.judge(run, prompts)
        results = judgement(answers)
        watched = goodhart_lines(results["goodhart"])
        write_jsonl(run.folder / "answers.jsonl", ({"model": label, **asdict(row)} for label, rows in answers.items() for row in rows))
        write_json_atomic(run.folder / "results.json", results | {"goodhart": results["goodhart"] | {"lines": watched}})
        ledger.write(run.folder / "ledger.json")
        for line in watched:
            run.progress.note(line)
        run.summary |= {"prompts": len(prompts), **_in_short(results), "goodhart_warnings": len(results["goodhart"]["warnings"])}
        remove_chunks(run)

    def _bench(self, run: StageRun) -> Bench:
        """Return all models as they are named, and check that they read what the others write. Raises `LineageError`."""
        from herdling.evals.divergence import check_same_texts
        from herdling.generate.gated_reward import check_texts

        def reader(reference: str) -> Reader:
            from herdling.checkpoint.huggingface_config import load_config
            from herdling.generate.loaded import load_chat_format

            folder = model_in(run.input(reference))
            return Reader(name=folder.name, place=folder, chat_format=load_chat_format(folder), context=load_config(folder).max_position_embeddings)

        named = {"helpfulness": self.rewards.helpfulness, "safety": self.rewards.safety, "watch": self.watch}
        policies, reference = {label: reader(one) for label, one in self.models.items()}, reader(self.reference)
        judges = {name: reader(one) for name, one in named.items() if one is not None}
        for policy in policies.values():
            check_same_texts(policy, reference)
            for name, judge in judges.items():
                check_texts(name, judge.name, judge.chat_format, policy.chat_format, policy.name)
        run.record(tokenizer=reference.tokenizer.fingerprint, chat_template=reference.chat_format.fingerprint)
        return Bench(settings=self, policies=policies, reference=reference, judges=judges, seed=stream_seed(run.seed, run.name))

    def _prompts(self, run: StageRun) -> Iterator[Prompt]:
        """Yield the held-out prompts: with `gold` as questions whose answer is known."""
        folder = run.input(self.data)
        held_out = dialogs_of(folder, "validation")
        if not self.gold:
            asked = islice(prompts_of(held_out), self.max_prompts)
            yield from (Prompt(dialog=dialog, skill=OWN_SKILL, group="adversarial" if is_safety(dialog) else "harmless") for dialog in asked)
            return
        own = (replace(question, group=OWN_SKILL) for dialog in held_out for question in questions_of(dialog))
        path = folder / "questions.jsonl"
        listed = read_jsonl(path) if path.is_file() else iter(())
        further = (question_from_row(row, f"{path}, line {number:,}") for number, row in listed)
        for question in first_of_each_group(chain(own, further), self.max_prompts):
            group: Group = "adversarial" if is_harmful(question) else "out of scope" if OUT_OF_SCOPE_ANSWER in question.accepted else "harmless"
            yield Prompt(dialog=question.dialog, skill=question.group, group=group, question=question)


def _in_short(results: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of the newest model beside the one before it, by the judge that is nearest to the truth."""
    last = results["comparisons"][-1]
    judge = next(name for name in ("gold", "watch", "reward") if name in last["win_rates"])
    new = results["models"][last["new"]]
    rate, moved = last["win_rates"][judge]["rate"], last["differences"][judge]["mean"]
    short = {f"win_rate_of_{last['new']}_over_{last['old']}_by_{judge}": round(rate, 4), "kl": round(new["kl"]["mean"], 4)}
    return short | ({} if moved is None else {f"{judge}_gained": round(moved, 4)})
