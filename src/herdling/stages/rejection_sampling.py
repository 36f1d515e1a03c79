"""The stage rejection_sampling: K answers to each prompt, of which the best becomes what the next model is tuned on.

Reads a chat model (or asks a server that runs it), reward models, the dialogs whose questions are asked, and what earlier versions said. Writes samples:
`dialogs/` (targets for sft) and `comparisons/` (the best against a worse one) for training and held out, `scores.jsonl` (the reward of each target and whose
it is), `curves.json` (what the best of k is worth, at each temperature) and `ledger.json`. Costs K answers a prompt; memory holds one chunk of prompts. A stage
that was killed goes on after the last whole chunk, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream, stream_seed
from herdling.data.prompts import prompts_of
from herdling.generate.generator import ServerConfig
from herdling.stages.chunks import Chunked, remove_chunks
from herdling.stages.registry import ComparisonsInput, DataInput, ModelInput, StageRun, stage
from herdling.stages.rewards import RewardsConfig
from herdling.stages.sft import dialogs_of
from herdling.types import Dialog

if TYPE_CHECKING:
    from herdling.evals.best_of_k import BestOfK
    from herdling.stages.best_answers import BestAnswers

NUM_SHOWN = 4
Rows = Chunked[Dialog]


@stage("rejection_sampling", output="samples")
class RejectionSampling:
    """Rejection sampling (Llama 2, section 3.2.3; Llama 3, section 4.2.2): sample K answers to each prompt from the latest model, judge them with the best
    reward models there are, take the best as the new target. The best samples of all earlier versions stay in the pool, for with the last version's alone
    skills were lost. The temperature is chosen anew each time, by what the best of K is worth on held-out prompts. A larger model's samples may teach a
    smaller one.
    """

    model: ModelInput
    """The chat model that samples: the latest version, or a larger model."""
    rewards: RewardsConfig
    """The reward models that judge: the best there are."""
    data: DataInput
    """Where the dialogs are whose questions are asked: the output of prepare_data. Targets come of its split train, held-out ones of its split validation."""
    earlier: dict[str, ComparisonsInput] | None = None
    """Name of a version -> what it made: samples, or comparisons of its answers. Their best stay in the pool, judged anew by the reward models of today
    (Llama 2, section 3.2.3: since V4 the top samples of all earlier versions). Unset: this is the first version."""
    sampler: ServerConfig | None = None
    """An OpenAI-compatible server that runs `model`. Unset: the model answers in this process."""
    num_samples: Annotated[int, Field(ge=1)] = 16
    """K. Llama 3 takes 10 to 30; Llama 2 looks at 1 to 100 and does not print what was used."""
    temperatures: tuple[Annotated[float, Field(ge=0)], ...] = (0.8, 1.0, 1.2)
    """Tried on held-out prompts; the one whose best of K has the highest reward is used, or the coolest that is not worse beyond chance (Llama 2: 1.2 to 1.3
    for its RLHF models, tuned for each version)."""
    max_prompts: Annotated[int, Field(ge=1)] | None = None
    """Ask this many of the training prompts, drawn at random. Unset: all."""
    max_held_out: Annotated[int, Field(ge=1)] = 64
    """Ask this many of the held-out prompts, at each temperature."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """An answer that is not finished by then is never a target."""
    rejected: Literal["worst", "random"] = "worst"
    """Which of the other answers stands against the best one in a pair. The papers do not say."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of the prompts get no target."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Prompts whose samples are drawn side by side, and saved together: what a kill can cost. Not volatile: another batch may round a logit otherwise."""

    def __post_init__(self) -> None:
        if not self.temperatures or len(set(self.temperatures)) < len(self.temperatures):
            raise SettingsError(f"temperatures: found {list(self.temperatures)}, expected one or more, each once")

    def run(self, run: StageRun) -> None:
        """Choose the temperature, sample, judge, keep the best of this version and of the earlier ones."""
        from herdling.evals.best_of_k import coolest_of_the_best
        from herdling.stages.best_answers import open_best_answers

        run.check_tokenizers()
        seed = stream_seed(run.seed, run.name)
        answers = open_best_answers(self, run, seed)
        prompts, held_out = self.prompts(run, "train", self.max_prompts, seed), self.prompts(run, "validation", self.max_held_out, seed)
        unasked = answers.unasked([*prompts, *held_out])
        run.progress.begin(len(self.temperatures) * len(held_out) + len(prompts) + len(unasked), "prompts")

        tried = [self._chunked(run, f"held-out-{place}", held_out, answers, warmth, place * len(held_out)) for place, warmth in enumerate(self.temperatures)]
        floor = lowest_reward(tried, run.name)
        curves = [best_of_k(rows, self.num_samples, floor) for rows in tried]
        place = coolest_of_the_best(self.temperatures, curves)
        temperature, before = self.temperatures[place], len(held_out) * len(tried)
        sampled = self._chunked(run, "train", prompts, answers, temperature, before)
        old = Chunked(run=run, part="earlier", items=unasked, size=self.batch_size, make=answers.of_earlier, done_before=before + len(prompts))

        ledger = Ledger(run.name)
        for row in chain(sampled, old):
            count_row(row, ledger)
        ledger.check(self.max_dropped_share)
        write_samples(run.folder, [sampled, old], [tried[place]])
        trained = best_of_k(sampled, self.num_samples, lowest_reward([*tried, sampled], run.name))
        held = [{"temperature": warmth, **curve.to_dict()} for warmth, curve in zip(self.temperatures, curves, strict=True)]
        told = {"num_samples": self.num_samples, "temperature": temperature, "held_out": held, "train": trained.to_dict()}
        write_json_atomic(run.folder / "curves.json", told)
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"prompts": len(prompts), "targets": ledger.kept, "pairs": ledger.counts.get("pairs", 0), "temperature": temperature}
        run.summary |= {"from_earlier": ledger.counts.get("targets of earlier versions", 0), **gains(trained)}
        remove_chunks(run)

    def prompts(self, run: StageRun, split: str, most: int | None, seed: int) -> list[Dialog]:
        """Return the prompts to ask, each once, in the order of the data."""
        from herdling.generate.best_of import prompt_key

        found = list({prompt_key(prompt): prompt for prompt in prompts_of(dialogs_of(run.input(self.data), split))}.values())
        if not found:
            raise DataError(
                f"{run.input(self.data)}: has no prompts in the split {split}, which {run.name} needs. Give prepare_data dialogs, and hold some out"
            )
        drawn = sorted(stream(seed, "prompts", split).permutation(len(found))[:most].tolist())
        return [found[number] for number in drawn]

    def _chunked(self, run: StageRun, part: str, prompts: Sequence[Dialog], answers: BestAnswers, temperature: float, before: int) -> Rows:
        def make(asked: Sequence[Dialog]) -> list[dict[str, Any]]:
            return answers.of(asked, temperature)

        return Chunked(run=run, part=part, items=prompts, size=self.batch_size, make=make, done_before=before)


def lowest_reward(parts: Sequence[Rows], name: str) -> float:
    """Return the lowest reward: what a sample that cannot be used counts as in the curves. Raises `DataError` when all are such."""
    rewards: list[float] = [reward for rows in parts for row in rows for reward in row["rewards"] if reward is not None]
    if not rewards:
        ledger = Ledger(name)
        for row in chain.from_iterable(parts):
            count_row(row, ledger)
        ledger.check(1.0)
    return min(rewards)


def best_of_k(rows: Rows, num_samples: int, floor: float) -> BestOfK:
    """Return the curves over k of the prompts that were sampled."""
    from herdling.evals.best_of_k import BestOfK

    curves = BestOfK(num_samples, floor)
    for row in rows:
        if row["rewards"]:
            curves.add(row["rewards"])
    return curves


def gains(curves: BestOfK) -> dict[str, float]:
    """Return what a sample is worth on average, and what the best of K is."""
    told = curves.to_dict()
    return {"mean_reward": round(told["mean"]["value"][-1], 4), "best_reward": round(told["max"]["value"][-1], 4)} if curves.bests else {}


def count_row(row: dict[str, Any], ledger: Ledger) -> None:
    """Count what became of one prompt."""
    ledger.read()
    if "target" in row:
        ledger.keep()
    else:
        ledger.drop(*row["dropped"])
    for name, amount in row["counts"].items():
        ledger.count(name, amount)


def write_samples(folder: Path, train: Sequence[Chunked[Any]], held_out: Sequence[Chunked[Any]]) -> None:
    """Write targets, pairs and scores of both sides, row by row, and the first few targets to be looked at."""

    def column(parts: Sequence[Chunked[Any]], name: str) -> Iterator[dict[str, Any]]:
        return (row[name] for row in chain.from_iterable(parts) if name in row)

    for parts, split, test in ((train, "train", "train"), (held_out, "validation", "test")):
        write_jsonl(folder / "dialogs" / f"{split}.jsonl", column(parts, "target"))
        write_jsonl(folder / "comparisons" / f"{test}.jsonl", column(parts, "pair"))
    scores = ({"split": split, **row} for split, parts in (("train", train), ("validation", held_out)) for row in column(parts, "score"))
    write_jsonl(folder / "scores.jsonl", scores)
    shown = ([message["content"] for message in row["messages"][-2:]] for row in islice(column(train, "target"), NUM_SHOWN))
    write_jsonl(folder / "samples.jsonl", ({"prompt": prompt, "completion": completion} for prompt, completion in shown))
