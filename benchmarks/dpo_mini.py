"""What DPO's settings do to a miniature, by the gold reward of the simulated annotator, which no training sees. Prints one JSON line a variant.

    python benchmarks/dpo_mini.py --runs runs/rewards-mini --out FOLDER [--model sft] [--of policy] [--only NAME ...] [--pairs 4000] [--write FILE]

Reads the finished stages prepare_data, collect_helpfulness and `--model` (sft, or sft_early, which leaves more to learn) of `recipes/rewards-mini.toml`. Each
variant is the stage dpo with one setting changed, on `--pairs` comparisons: of two answers that the model itself gave at temperature 1 (`policy`, as in a round
of Llama 3), or the first that collect_helpfulness has, from two models at three temperatures (`collected`). Then it and the model that it began as answer
held-out questions, and `seen` ones, at temperature 1 and greedily. Told for each: mean gold reward with its 95 % interval, the share of answers that ended
by themselves, their length, the KL divergence from the model that it began as, an answer and a token (mean of log p - log ref over its own samples).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from machine import machine_facts

from herdling.base.comparison_records import fault, read_comparisons, write_comparisons
from herdling.base.decode import decode
from herdling.base.seeds import stream_seed
from herdling.generate.loaded import LoadedModel, load
from herdling.stages.dpo import Dpo
from herdling.stages.registry import StageRun
from herdling.stages.sft import dialogs_of
from herdling.starter.taste import AnnotatorConfig, compare, gold_reward, questions_of
from herdling.types import Comparison, Completion, Question, Sampling

NOISE = AnnotatorConfig(temperature=1.0)
LOOP = {"device": "cpu", "dtype": "float32", "checkpoint": {"every_seconds": 1e9}}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    **{f"lr {lr:g}": {"optimizer": {"lr": lr}} for lr in (1e-5, 3e-5, 1e-4, 2e-4, 4e-4, 1e-3)},
    "formatting nll": {"formatting": "nll"},
    "formatting trained": {"formatting": "trained"},
    "no nll": {"nll": 0.0},
    "no nll, trained": {"nll": 0.0, "formatting": "trained"},
    "nll 1": {"nll": 1.0},
    "nll batch": {"nll_norm": "batch"},
    "nll sum": {"nll_norm": "sum"},
    "beta 0.03": {"beta": 0.03},
    "beta 0.3": {"beta": 0.3},
    "beta 1": {"beta": 1.0},
    "all ratings": {"ratings": ["significantly", "better", "slightly", "negligibly"]},
    "moving 10 steps 0.9": {"moving_reference": {"every_steps": 10, "decay": 0.9}},
    "moving 10 steps 0.5": {"moving_reference": {"every_steps": 10, "decay": 0.5}},
    "two epochs": {"epochs": 2},
}


def train(name: str, settings: Mapping[str, Any], model: Path, comparisons: Path, folder: Path, seed: int) -> tuple[LoadedModel, dict[str, Any]]:
    """Run the stage, and return the model with what it says of itself."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = StageRun(name="dpo", folder=folder, seed=seed, inputs={"model": model, "helpfulness": comparisons})
    decode(Dpo, {"model": "model", "comparisons": {"helpfulness": "helpfulness"}, "loop": LOOP, **settings}, f"variant {name}").run(run)
    return load(folder), run.summary


def measure(model: LoadedModel, reference: LoadedModel, questions: Sequence[Question], seed: int) -> dict[str, Any]:
    """Ask both ways, and say what came of it."""
    dialogs = [question.dialog for question in questions]
    sampled = model.chat_batch(dialogs, [Sampling(temperature=1.0, top_p=1.0, max_tokens=64, seed=stream_seed(seed, "ask", n)) for n in range(len(dialogs))])
    greedy = model.chat_batch(dialogs, Sampling(temperature=0.0, max_tokens=64))
    shifts = [_shift(question, answer, reference) for question, answer in zip(questions, sampled, strict=True)]
    lengths = [len(answer.token_ids) for answer in sampled]
    return {
        **{
            f"gold {how}": _mean([gold_reward(q, a.message.content, "helpfulness") for q, a in zip(questions, answers, strict=True)])
            for how, answers in (("sampled", sampled), ("greedy", greedy))
        },
        **{
            f"ended {how}": round(sum(a.stop_reason == "end_of_turn" for a in answers) / len(answers), 3)
            for how, answers in (("sampled", sampled), ("greedy", greedy))
        },
        "tokens": round(statistics.mean(lengths), 1),
        "kl_per_answer": _mean(shifts),
        "kl_per_token": round(sum(shifts) / sum(lengths), 4),
    }


def own_pairs(model: LoadedModel, questions: Sequence[Question], count: int, seed: int) -> list[Comparison]:
    """Return comparisons of two different answers of the model's own, judged as collect_helpfulness judges."""
    found: list[Comparison] = []
    for start in range(0, len(questions), 256):
        asked = questions[start : start + 256]
        sides = []
        for side in (0, 1):
            samplings = [Sampling(temperature=1.0, top_p=1.0, max_tokens=48, seed=stream_seed(seed, "own", side, start + n)) for n in range(len(asked))]
            sides.append(model.chat_batch([question.dialog for question in asked], samplings))
        for number, (question, left, right) in enumerate(zip(asked, *sides, strict=True)):
            judged = compare(question, left, right, campaign="helpfulness", annotator=NOISE, seed=stream_seed(seed, "judge", start + number))
            if fault(judged) is None:
                found.append(judged)
        if len(found) >= count:
            break
    return found


def questions_from(runs: Path, split: str, count: int) -> list[Question]:
    """Return the first questions of a split of the dialogs."""
    return list(islice((question for dialog in dialogs_of(runs / "prepare_data", split) for question in questions_of(dialog)), count))


def _shift(question: Question, answer: Completion, reference: LoadedModel) -> float:
    """Return log p - log ref of an answer's own tokens."""
    prompt = reference.chat_format.encode(question.dialog, generate=True).ids
    ids = [*prompt, *answer.token_ids]
    logprobs = torch.log_softmax(reference.logits(ids), -1)
    theirs = logprobs[range(len(prompt) - 1, len(ids) - 1), list(answer.token_ids)].sum().item()
    assert answer.logprob is not None
    return answer.logprob - theirs


def _mean(values: Sequence[float]) -> list[float]:
    """Return mean, and the half width of its 95 % interval."""
    return [round(statistics.mean(values), 4), round(1.96 * statistics.stdev(values) / len(values) ** 0.5, 4)]


def main() -> None:
    """Train and measure each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--model", default="sft", help="the stage to begin with: sft or sft_early")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--of", choices=("policy", "collected"), default="policy", help="whose answers are compared")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    comparisons = options.out / "comparisons_of_all"
    reference = load(options.runs / options.model)
    if options.of == "policy":
        train_pairs, test_pairs = own_pairs(reference, questions_from(options.runs, "train", 4 * options.pairs), options.pairs, 1), []
    else:
        train_pairs, test_pairs = ([*read_comparisons(options.runs / "collect_helpfulness", split)] for split in ("train", "test"))
    write_comparisons(comparisons, "train", train_pairs[: options.pairs])
    write_comparisons(comparisons, "test", test_pairs[:1000])
    held_out, seen = (questions_from(options.runs, split, options.questions) for split in ("validation", "train"))
    gaps = [one.metadata["gold"][one.ranking[0]] - one.metadata["gold"][one.ranking[-1]] for one in train_pairs[: options.pairs]]
    print(json.dumps({"comparisons": len(gaps), "the better by gold was chosen": sum(gap > 0 for gap in gaps), "neither is better": gaps.count(0)}), flush=True)
    lines: list[dict[str, Any]] = [{"variant": options.model, "seen": measure(reference, reference, seen, 0), **measure(reference, reference, held_out, 0)}]
    print(json.dumps(lines[0]), flush=True)
    for name in options.only:
        for seed in range(1, options.seeds + 1):
            start = time.perf_counter()
            model, summary = train(name, VARIANTS[name], options.runs / options.model, comparisons, options.out / name.replace(" ", "_").replace(",", ""), seed)
            told = {key: summary[key] for key in ("pairs", "steps", *(name for name in summary if name.startswith("test_")))}
            found = {
                "variant": name,
                "seed": seed,
                **told,
                **measure(model, reference, held_out, seed),
                "seen": measure(model, reference, seen, seed),
                "seconds": round(time.perf_counter() - start, 1),
            }
            lines.append(found)
            print(json.dumps(found), flush=True)
    if options.write:
        options.write.write_text(json.dumps({"benchmark": "dpo_mini", **machine_facts("torch", "herdling"), "results": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
