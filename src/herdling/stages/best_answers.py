"""The work within rejection_sampling: ask a chunk of prompts, judge what was said beside what earlier versions said, choose.

All chance is named by the prompt and the number of the sample, the same at each temperature, so a chunk is the same whenever it is made and temperatures are
compared on equal luck. A row a prompt, as plain data: `target` and `score` where there is a best answer (else `dropped`), `pair` where there is a worse one,
`rewards` of all samples, and `counts`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from herdling.base.artifact import write_json_atomic
from herdling.base.comparison_records import comparison_to_row, read_comparisons
from herdling.base.errors import DataError, LineageError
from herdling.base.records import dialog_to_row
from herdling.base.seeds import stream, stream_seed
from herdling.checkpoint.huggingface_config import load_config
from herdling.generate.best_of import NEVER_ENDED, Judged, best, combined, judge, pair, prompt_fault, prompt_key, said_by, sample, target
from herdling.generate.gated_reward import RewardModels
from herdling.generate.generator import Generator, ServerConfig, model_fingerprint
from herdling.generate.loaded import load, load_chat_format
from herdling.stages.registry import StageRun
from herdling.stages.rewards import load_rewards
from herdling.stages.sft import dialogs_of
from herdling.tokenizer.chat_format import ChatFormat
from herdling.train.config import LoopConfig
from herdling.train.start import settle_device
from herdling.types import Completion, Dialog, Sampling

if TYPE_CHECKING:
    from herdling.stages.rejection_sampling import RejectionSampling

SAMPLER = "sampler.json"
NO_PAIR_ONE = "prompts whose samples all say the same: no pair"
NO_PAIR_EQUAL = "prompts whose samples are all worth the same: no pair"
Pool = Mapping[str, tuple[Dialog, Sequence[Completion]]]
"""Key of a prompt -> the prompt, and the best answers of earlier versions to it; `Completion.model` is the name of the version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestAnswers:
    """The sampler and the judges, ready to work."""

    settings: RejectionSampling
    name: str
    generator: Callable[[], Generator]
    weights: Weights
    """Those that are expected to answer."""
    rewards: RewardModels
    chat_format: ChatFormat
    context: int
    """Of the sampler."""
    seed: int
    pool: Pool

    def of(self, prompts: Sequence[Dialog], temperature: float) -> list[dict[str, Any]]:
        """Return a row for each prompt that is asked."""
        faults = [prompt_fault(prompt, self.chat_format, self.context) for prompt in prompts]
        fitting = [prompt for prompt, fault in zip(prompts, faults, strict=True) if not fault]
        samplings = [[self.sampling(prompt, number, temperature) for number in range(self.settings.num_samples)] for prompt in fitting]
        said = sample(self.generator(), fitting, samplings, expected=self.weights.expected)
        self.weights.pin(said)
        earlier = [self.pool[key][1] if (key := prompt_key(prompt)) in self.pool else () for prompt in fitting]
        judged = iter(self._judge(fitting, [[*own, *others] for own, others in zip(said, earlier, strict=True)]))
        rows: list[dict[str, Any]] = []
        for prompt, fault in zip(prompts, faults, strict=True):
            if fault:
                rows.append({"rewards": [], "counts": {}, "dropped": fault})
            else:
                answers = next(judged)
                rows.append(self._row(prompt, answers[: self.settings.num_samples], answers[self.settings.num_samples :]))
        return rows

    def unasked(self, asked: Sequence[Dialog]) -> list[Dialog]:
        """Return the prompts of earlier versions that are not asked now: their best answers stay targets."""
        known = set(map(prompt_key, asked))
        return [prompt for key, (prompt, _) in self.pool.items() if key not in known]

    def of_earlier(self, prompts: Sequence[Dialog]) -> list[dict[str, Any]]:
        """Return a row for each prompt that only earlier versions answered."""
        judged = self._judge(prompts, [self.pool[prompt_key(prompt)][1] for prompt in prompts])
        return [self._row(prompt, [], answers) for prompt, answers in zip(prompts, judged, strict=True)]

    def _judge(self, prompts: Sequence[Dialog], answers: Sequence[Sequence[Completion]]) -> list[list[Judged]]:
        return judge(self.rewards.score, self.chat_format, self.rewards.context, prompts, answers)

    def sampling(self, prompt: Dialog, number: int, temperature: float) -> Sampling:
        """Return how the sample of this number is drawn."""
        seed = stream_seed(self.seed, "sample", prompt.id, number)
        return Sampling(temperature=temperature, top_p=1.0, max_tokens=self.settings.max_tokens, seed=seed)

    def _row(self, prompt: Dialog, own: Sequence[Judged], earlier: Sequence[Judged]) -> dict[str, Any]:
        """Return what comes of one prompt: the best of all answers as the target, the best of this version's against a worse one as a pair."""
        counts: Counter[str] = Counter(f"samples {one.fault}" for one in own if one.fault)
        counts |= Counter({"samples": len(own), "samples that say what another says": len(own) - len({said_by(one.completion) for one in own})})
        row: dict[str, Any] = {"rewards": [None if one.reward is None else one.reward.combined for one in own]}
        chosen = best([*own, *earlier])
        if chosen is None:
            common = Counter(one.fault for one in (*own, *earlier)).most_common(1)[0][0]
            return row | {"counts": counts, "dropped": ("no answer can be used", f"{prompt.id}: {common}")}
        is_earlier = any(one is chosen for one in earlier)
        if is_earlier:
            counts |= Counter({"targets of earlier versions": 1, f"targets of {chosen.completion.model}": 1})
        row |= {"target": dialog_to_row(target(prompt, chosen)), "score": self._score(prompt, chosen, own, is_earlier)}
        against = self._rejected(prompt, own)
        if isinstance(against, Judged):
            row["pair"] = self._pair(prompt, own, against)
            counts["pairs"] = 1
        elif against:
            counts[against] = 1
        return row | {"counts": counts}

    def _rejected(self, prompt: Dialog, own: Sequence[Judged]) -> Judged | str:
        """Return the answer that stands against the best one, or why none does; an empty text where this version has no usable answer."""
        chosen = best(own)
        if chosen is None:
            return ""
        others = [one for one in own if one.reward is not None and said_by(one.completion) != said_by(chosen.completion)]
        worse = [one for one in others if combined(one) < combined(chosen)]
        if not worse:
            return NO_PAIR_EQUAL if others else NO_PAIR_ONE
        if self.settings.rejected == "worst":
            return min(worse, key=combined)
        different = list({said_by(one.completion): one for one in worse}.values())
        return different[int(stream(self.seed, "rejected", prompt.id).integers(len(different)))]

    def _pair(self, prompt: Dialog, own: Sequence[Judged], against: Judged) -> dict[str, Any]:
        chosen = best(own)
        assert chosen is not None
        metadata = {"num_samples": len(own), "rejected": self.settings.rejected}
        return comparison_to_row(pair(prompt, chosen, against, round=self.name, metadata=metadata))

    def _score(self, prompt: Dialog, chosen: Judged, own: Sequence[Judged], is_earlier: bool) -> dict[str, Any]:
        assert chosen.reward is not None
        usable = [combined(one) for one in own if one.reward is not None]
        parts = {name: getattr(chosen.reward, name) for name in ("helpfulness", "safety")}
        told = chosen.completion
        return {
            "id": prompt.id,
            "version": told.model if is_earlier else self.name,
            "model_fingerprint": told.model_fingerprint,
            "stop_reason": told.stop_reason,
            "temperature": None if told.sampling is None else told.sampling.temperature,
            "reward": combined(chosen),
            **parts,
            "mean_reward": fmean(usable) if usable else None,
            "usable": len(usable),
            "distinct": len({said_by(one.completion) for one in own if one.reward is not None}),
        }


def open_best_answers(settings: RejectionSampling, run: StageRun, seed: int) -> BestAnswers:
    """Load, or reach, whatever answers and judges.

    Raises:
        LineageError: the reward models read other tokens or another chat template than the sampler writes, or the server has other weights than at first.
        FormatError: the model is a base model.
    """
    device = settle_device(LoopConfig(), run.folder).device.type
    folder, name = run.input(settings.model), settings.model.removeprefix("@")
    chat_format = load_chat_format(folder)
    run.record(tokenizer=chat_format.tokenizer.fingerprint, chat_template=chat_format.fingerprint)
    rewards = load_rewards(settings.rewards, run, device)
    rewards.check_format(chat_format, name)
    generator = _opener(settings.sampler or folder, name, device)
    return BestAnswers(
        settings=settings,
        name=run.name,
        generator=generator,
        weights=Weights.of(run.folder / SAMPLER, generator(), is_server=settings.sampler is not None),
        rewards=rewards,
        chat_format=chat_format,
        context=load_config(folder).max_position_embeddings,
        seed=seed,
        pool=read_pool(settings.earlier or {}, run),
    )


def _opener(place: Path | ServerConfig, name: str, device: str) -> Callable[[], Generator]:
    """Return what gives the sampler: a model in this process, or a server, asked anew what it serves each time."""
    if isinstance(place, ServerConfig):
        return lambda: place.open(name)
    model = load(place, device=device)
    model.name, model.fingerprint = name, model_fingerprint(place)
    return lambda: model


@dataclass(slots=True)
class Weights:
    """The weights that all samples of a stage come from, written down at the first time: a stage that goes on refuses others."""

    path: Path
    expected: str | None
    """The fingerprint of every answer; None until a server has given its first, for only there it may say which weights it has."""

    @classmethod
    def of(cls, path: Path, generator: Generator, *, is_server: bool) -> Weights:
        """Return the weights that this stage began with, or begins with now. Raises `LineageError` where the sampler has others."""
        if not path.is_file():
            write_json_atomic(path, {"name": generator.name, "fingerprint": generator.fingerprint})
        known = json.loads(path.read_text(encoding="utf-8"))
        if generator.fingerprint != known["fingerprint"]:
            raise LineageError(
                f"{generator.name}: this stage began with the weights {known['fingerprint'][:12]}, the sampler now has {generator.fingerprint[:12]}."
                " Serve those again, or make the stage again from the start with --force"
            )
        return cls(path, known.get("answers") if is_server else generator.fingerprint)

    def pin(self, said: Sequence[Sequence[Completion]]) -> None:
        """Write down the weights of a server's first answers."""
        if self.expected is None and said:
            self.expected = said[0][0].model_fingerprint
            write_json_atomic(self.path, {**json.loads(self.path.read_text(encoding="utf-8")), "answers": self.expected})


def read_pool(earlier: Mapping[str, str], run: StageRun) -> Pool:
    """Read the best answers of earlier versions: the targets of samples, the answers ranked first of comparisons. Those that never ended are left out.

    Raises:
        DataError: an input holds neither.
    """
    pool: dict[str, tuple[Dialog, list[Completion]]] = {}
    for version in sorted(earlier):
        for prompt, completion in _best_of_version(run.input(earlier[version])):
            _, found = pool.setdefault(prompt_key(prompt), (prompt, []))
            found.append(replace(completion, model=version))
    return pool


def _best_of_version(folder: Path) -> Iterator[tuple[Dialog, Completion]]:
    if (folder / "dialogs" / "train.jsonl").is_file():
        for dialog in dialogs_of(folder, "train"):
            prompt = replace(dialog, messages=dialog.messages[:-1], supervised="all")
            yield prompt, Completion(message=dialog.messages[-1], stop_reason="end_of_turn")
    elif (folder / "comparisons" / "train.jsonl").is_file():
        for comparison in read_comparisons(folder, "train"):
            if comparison.ranked[0].stop_reason not in NEVER_ENDED:
                yield comparison.dialog, comparison.ranked[0]
    else:
        raise DataError(f"{folder}: has neither dialogs nor comparisons to train on, so nothing of an earlier version. Name samples or comparisons")
