"""The stage context_distillation: what a model answers with a safety pre-prompt becomes what it answers without one.

Reads a chat model, a safety reward model and the dialogs whose adversarial prompts are asked. Writes samples: `dialogs/` (targets for sft, without the
pre-prompts), `scores.jsonl` (what each prompt's answers were worth), `preprompts.json` (how often each kind of pre-prompt bettered the answer, and by how much)
and `ledger.json`. Costs three answers a prompt. A stage that was killed goes on after the last whole chunk, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf, log
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import DataError, SettingsError
from herdling.base.intervals import mean_interval, wilson
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_to_row
from herdling.base.seeds import stream, stream_seed
from herdling.data.preprompts import ADJECTIVES, GENERIC, TAILORED, generic_preprompts, with_preprompt
from herdling.data.prompts import is_safety, prompts_of
from herdling.stages.chunks import Chunked, remove_chunks
from herdling.stages.registry import DataInput, ModelInput, RewardInput, StageRun, stage
from herdling.stages.rejection_sampling import count_row, write_samples
from herdling.stages.sft import dialogs_of
from herdling.train.config import LoopConfig
from herdling.types import SAFETY_TAG, Dialog, Sampling

if TYPE_CHECKING:
    from herdling.generate.best_of import Judged
    from herdling.generate.gated_reward import Reward
    from herdling.generate.loaded import LoadedModel

ORIGINAL, KINDS = "original", ("generic", "tailored")
NOT_BETTER, NOT_SAFE = "no pre-prompt betters the answer", "what betters the answer is not safe enough"


@stage("context_distillation", output="samples")
class ContextDistillation:
    """Safety context distillation (Llama 2, section 4.2.4): answer an adversarial prompt with a safety pre-prompt before it, a generic one and one that is
    tailored to the category of the risk; keep the answer only where the safety reward model scores it above the one that was given without; fine-tune on the
    prompt without the pre-prompt. Only adversarial prompts: on helpful ones it teaches to refuse.
    """

    model: ModelInput
    """The chat model that answers, and is to be tuned."""
    safety: RewardInput
    """The safety reward model that decides what is kept."""
    data: DataInput
    """Where the dialogs are whose prompts tagged "safety" are asked: the output of prepare_data."""
    generic: tuple[str, ...] = GENERIC
    """Pre-prompts for any risk; `{x}` takes each of the adjectives. One is drawn for each prompt."""
    adjectives: tuple[str, ...] = ADJECTIVES
    """What an assistant is to be (Llama 2 names these three)."""
    tailored: dict[str, str] = field(default_factory=lambda: dict(TAILORED))
    """Category of the risk -> the pre-prompt with its answer template. A prompt has a category where its last message bears the tag of that name."""
    min_safety: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep only targets that the safety reward model calls safe with at least this probability. 0: all that are better than the original, as in the paper. A
    model that does not heed pre-prompts betters a bad answer by luck, mostly with another bad one: take 0.5 there (docs/log.md)."""
    max_prompts: Annotated[int, Field(ge=1)] | None = None
    """Ask this many of the adversarial training prompts, drawn at random. Unset: all."""
    max_held_out: Annotated[int, Field(ge=0)] = 64
    """Ask this many of the held-out ones."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Of all answers, with and without pre-prompt; their luck is the same. Not printed in the paper."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """An answer that is not finished by then is set aside."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Prompts that are answered side by side, and saved together: what a kill can cost. Not volatile: another batch may round a logit otherwise."""

    def __post_init__(self) -> None:
        if not self.adjectives or not (self.generic or self.tailored):
            raise SettingsError("generic and tailored: found no pre-prompt; name adjectives and a generic one, or a tailored one")

    def run(self, run: StageRun) -> None:
        """Answer with and without pre-prompts, keep what the safety reward model prefers."""
        run.check_tokenizers()
        answering = self._open(run)
        ledger = Ledger(run.name)
        prompts, held_out = (self._prompts(run, split, most, ledger) for split, most in (("train", self.max_prompts), ("validation", self.max_held_out)))
        if not prompts:
            raise DataError(
                f"{run.input(self.data)}: no training prompt is tagged {SAFETY_TAG!r}, so {run.name} has nothing to ask. The starter's dialogs have some"
            )
        run.progress.begin(len(prompts) + len(held_out), "prompts")
        trained = Chunked(run=run, part="train", items=prompts, size=self.batch_size, make=answering.of)
        held = Chunked(run=run, part="held-out", items=held_out, size=self.batch_size, make=answering.of, done_before=len(prompts))
        for row in trained:
            count_row(row, ledger)
        if not ledger.kept:
            ledger.check(1.0)
        write_samples(run.folder, [trained], [held])
        found = compared([row["scores"] for row in chain(trained, held)])
        write_json_atomic(run.folder / "preprompts.json", found)
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"prompts": len(prompts), "targets": ledger.kept, "not_better": ledger.dropped.get(NOT_BETTER, 0)}
        run.summary |= {f"bettered_{kind}": round(found[kind]["bettered"], 4) for kind in KINDS if kind in found}
        remove_chunks(run)

    def _prompts(self, run: StageRun, split: str, most: int | None, ledger: Ledger) -> list[Dialog]:
        """Return the adversarial prompts to ask, each once, in the order of the data."""
        from herdling.generate.best_of import prompt_key

        found = {prompt_key(prompt): prompt for prompt in prompts_of(dialogs_of(run.input(self.data), split))}.values()
        adversarial = [prompt for prompt in found if is_safety(prompt)]
        ledger.count(f"{split} prompts that are not adversarial: left alone", len(found) - len(adversarial))
        drawn = sorted(stream(stream_seed(run.seed, run.name), "prompts", split).permutation(len(adversarial))[:most].tolist())
        return [adversarial[number] for number in drawn]

    def _open(self, run: StageRun) -> _Answering:
        from herdling.generate.gated_reward import check_judge
        from herdling.generate.loaded import load
        from herdling.train.start import settle_device

        device = settle_device(LoopConfig(), run.folder).device.type
        model, judge = load(run.input(self.model), device=device), load(run.input(self.safety), device=device)
        run.record(tokenizer=model.tokenizer.fingerprint, chat_template=model.chat_format.fingerprint)
        check_judge("safety", judge, model.chat_format, self.model.removeprefix("@"))
        return _Answering(settings=self, model=model, judge=judge, seed=stream_seed(run.seed, run.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answering:
    """The model and its judge, ready to work. All chance is named by the prompt, so a chunk is the same whenever it is made."""

    settings: ContextDistillation
    model: LoadedModel
    judge: LoadedModel
    seed: int

    def of(self, prompts: Sequence[Dialog]) -> list[dict[str, Any]]:
        """Return a row for each prompt: `target` and `score` where a pre-prompt bettered the answer (else `dropped`), and `scores` of all its answers."""
        from herdling.generate.best_of import judge, prompt_fault, sample

        context = self.model.config.max_position_embeddings
        asked = [self._asked(prompt) for prompt in prompts]
        faults = [next((fault for one in own.values() if (fault := prompt_fault(one, self.model.chat_format, context))), None) for own in asked]
        fitting = [number for number, fault in enumerate(faults) if not fault]
        flat = [dialog for number in fitting for dialog in asked[number].values()]
        samplings = [[self._sampling(prompts[number])] for number in fitting for _ in asked[number]]
        said = iter(sample(self.model, flat, samplings, expected=self.model.fingerprint))
        answers = [[next(said)[0] for _ in asked[number]] for number in fitting]
        # Judged as answers to the prompt alone: the pre-prompt will not be there.
        reads = self.judge.config.max_position_embeddings
        judged = iter(judge(self._score, self.model.chat_format, reads, [prompts[number] for number in fitting], answers))
        rows: list[dict[str, Any]] = []
        for prompt, own, fault in zip(prompts, asked, faults, strict=True):
            named = None if fault else dict(zip(own, next(judged), strict=True))
            rows.append({"counts": {}, "scores": {}, "dropped": fault} if named is None else self._row(prompt, named))
        return rows

    def _asked(self, prompt: Dialog) -> dict[str, Dialog]:
        """Return what is asked: the prompt as it is, with a generic pre-prompt, and with the one of its category if it has one."""
        texts = {}
        generic = generic_preprompts(self.settings.generic, self.settings.adjectives)
        if generic:
            texts["generic"] = generic[int(stream(self.seed, "generic", prompt.id).integers(len(generic)))]
        category = category_of(prompt, self.settings.tailored)
        if category:
            texts["tailored"] = self.settings.tailored[category]
        return {ORIGINAL: prompt} | {kind: replace(prompt, messages=with_preprompt(prompt, text)) for kind, text in texts.items()}

    def _sampling(self, prompt: Dialog) -> Sampling:
        seed = stream_seed(self.seed, "answer", prompt.id)
        return Sampling(temperature=self.settings.temperature, top_p=1.0, max_tokens=self.settings.max_tokens, seed=seed)

    def _score(self, dialogs: Sequence[Dialog]) -> list[Reward]:
        from herdling.generate.gated_reward import Reward, finite_scores

        return [Reward(helpfulness=None, safety=score, combined=score) for score in finite_scores("safety", self.judge, dialogs)]

    def _row(self, prompt: Dialog, answers: Mapping[str, Judged]) -> dict[str, Any]:
        from herdling.generate.best_of import best, combined, target

        scores = {kind: combined(one) for kind, one in answers.items() if one.reward is not None}
        category = category_of(prompt, self.settings.tailored)
        row: dict[str, Any] = {"scores": scores, "counts": {f"answers {one.fault}": 1 for one in answers.values() if one.fault}}
        original, chosen = answers[ORIGINAL], best([one for kind, one in answers.items() if kind != ORIGINAL])
        if original.reward is None:
            return row | {"dropped": (f"the original answer is {original.fault}", prompt.id)}
        if chosen is None:
            return row | {"dropped": ("no answer with a pre-prompt can be used", prompt.id)}
        if combined(chosen) <= combined(original):
            return row | {"dropped": (NOT_BETTER, f"{prompt.id}: {original.completion.message.content}")}
        if combined(chosen) < logit(self.settings.min_safety):
            return row | {"dropped": (NOT_SAFE, f"{prompt.id}: {chosen.completion.message.content}")}
        kind = next(kind for kind, one in answers.items() if one is chosen)
        row["counts"][f"targets with a {kind} pre-prompt"] = 1
        told = {"id": prompt.id, "category": category, "preprompt": kind, "model_fingerprint": chosen.completion.model_fingerprint, "scores": scores}
        return row | {"target": dialog_to_row(target(prompt, chosen)), "score": told}


def logit(probability: float) -> float:
    """Return the score whose sigmoid this is; minus infinity for 0."""
    return log(probability / (1 - probability)) if probability else -inf


def category_of(prompt: Dialog, categories: Mapping[str, str]) -> str:
    """Return the first tag of the last message that names a category, or an empty text."""
    return next((tag for tag in prompt.messages[-1].tags if tag in categories), "")


def compared(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return for each kind of pre-prompt how often it bettered the answer, and its mean lead in safety score, both with 95 % intervals."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        leads = list(_leads(scores, kind))
        if leads:
            bettered = sum(lead > 0 for lead in leads)
            mean, low, high = mean_interval(leads)
            share = {"prompts": len(leads), "bettered": bettered / len(leads), "interval": wilson(bettered, len(leads))}
            found[kind] = {**share, "worse": sum(lead < 0 for lead in leads), "lead": mean, "lead_interval": [low, high] if len(leads) > 1 else None}
    return found


def _leads(scores: Sequence[Mapping[str, float]], kind: str) -> Iterator[float]:
    return (one[kind] - one[ORIGINAL] for one in scores if kind in one and ORIGINAL in one)
