"""Rejection sampling against the hidden gold reward: does the best of K by the reward models please the simulated annotator more? Prints one JSON line.

    python benchmarks/gold_best_of_k.py --run RUN --out FOLDER [--model sft] [--prompts 300] [--num-samples 16] [--write FILE]

RUN holds the stages of recipes/rewards-mini.toml. Runs the stage rejection_sampling into OUT, then draws the same samples again and asks the gold reward
(starter.taste), which no training saw, what each is worth: by helpfulness for harmless prompts, by safety for adversarial ones. For each k the expected gold
reward of the answer that the reward models choose among k, of a random one, and of the best that there is (oracle), with 95 % intervals over prompts. A run
that was made before adversarial prompts were tagged gets its tags here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine_facts
from result import give_result

from herdling.base.artifact import is_artifact, read_artifact
from herdling.base.decode import decode
from herdling.base.intervals import mean_interval
from herdling.base.records import dialog_to_row, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.prompts import is_safety
from herdling.evals.best_of_k import order_weights, sizes
from herdling.generate.best_of import Judged, combined, judge, sample
from herdling.stages.best_answers import open_best_answers
from herdling.stages.registry import StageRun
from herdling.stages.rejection_sampling import RejectionSampling
from herdling.stages.sft import dialogs_of
from herdling.starter.refusals import HARMFUL_ANSWER
from herdling.starter.taste import gold_reward, questions_of
from herdling.types import SAFETY_TAG, Campaign, Dialog

SEED = 1
WAYS = ("chosen", "random", "oracle")


def tagged(dialog: Dialog) -> Dialog:
    """Return a dialog whose adversarial messages are tagged: those that must be refused."""
    answers = [message.content for message in dialog.messages[1:]] + [""]
    tags = [(SAFETY_TAG,) if answer == HARMFUL_ANSWER else () for answer in answers]
    messages = (message if message.tags else replace(message, tags=tag) for message, tag in zip(dialog.messages, tags, strict=True))
    return replace(dialog, messages=tuple(messages))


def gold_curves(rewards: np.ndarray, gold: np.ndarray, k: int) -> dict[str, float]:
    """Return the expected gold reward at k of one prompt, `[K]` each."""
    by_reward, weights = gold[np.argsort(rewards, kind="stable")], order_weights(len(gold), k, k)
    return {"chosen": float(weights @ by_reward), "random": float(gold.mean()), "oracle": float(weights @ np.sort(gold))}


def stage_of(options: argparse.Namespace) -> tuple[RejectionSampling, StageRun]:
    """Write the tagged dialogs and return the stage over them, ready to run."""
    for split in ("train", "validation"):
        found = map(tagged, dialogs_of(options.run / "prepare_data", split))
        write_jsonl(options.out / "data" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, found))
    inputs = {name: options.run / name for name in (options.model, "reward_helpfulness", "reward_safety")} | {"data": options.out / "data"}
    settings = {
        "model": options.model,
        "rewards": {"helpfulness": "reward_helpfulness", "safety": "reward_safety"},
        "data": "data",
        "num_samples": options.num_samples,
        "temperatures": [float(one) for one in options.temperatures.split(",")],
        "max_prompts": options.prompts,
        "max_tokens": 48,
    }
    artifacts = {name: read_artifact(path) for name, path in inputs.items() if is_artifact(path)}
    run = StageRun(name="rejection_sampling", folder=options.out / "samples", seed=SEED, inputs=inputs, artifacts=artifacts)
    run.folder.mkdir(parents=True, exist_ok=True)
    return decode(RejectionSampling, settings, "stages.rejection_sampling"), run


def samples_of(settings: RejectionSampling, run: StageRun) -> Iterator[tuple[Dialog, list[Judged]]]:
    """Draw the samples of the training prompts again, each with its reward; yield the prompts of which all K can be used: a curve over k needs them."""
    seed = stream_seed(SEED, run.name)
    answers, prompts = open_best_answers(settings, run, seed), settings.prompts(run, "train", settings.max_prompts, seed)
    targets = {dialog.id: dialog.messages[-1].content for dialog in dialogs_of(run.folder, "train")}
    for start in range(0, len(prompts), settings.batch_size):
        chunk = prompts[start : start + settings.batch_size]
        samplings = [[answers.sampling(prompt, number, run.summary["temperature"]) for number in range(settings.num_samples)] for prompt in chunk]
        said = sample(answers.generator(), chunk, samplings, expected=answers.weights.expected)
        for prompt, own in zip(chunk, judge(answers.rewards.score, answers.chat_format, answers.rewards.context, chunk, said), strict=True):
            if all(one.reward is not None for one in own):
                assert targets[prompt.id] == max(own, key=combined).completion.message.content  # the stage chose from just these
                yield prompt, own


def gold_values(settings: RejectionSampling, run: StageRun, ks: Sequence[int]) -> dict[str, dict[str, list[list[float]]]]:
    """Return kind of prompt -> way of choosing -> for each k the expected gold reward of each prompt."""
    questions = {question.id: question for dialog in dialogs_of(run.input("data"), "train") for question in questions_of(dialog)}
    found: dict[str, dict[str, list[list[float]]]] = {kind: {way: [[] for _ in ks] for way in WAYS} for kind in ("all", "harmless", "adversarial")}
    for prompt, own in samples_of(settings, run):
        campaign: Campaign = "safety" if is_safety(prompt) else "helpfulness"
        gold = np.array([gold_reward(questions[prompt.id], one.completion.message.content, campaign) for one in own])
        rewards = np.array([combined(one) for one in own])
        for place, k in enumerate(ks):
            for way, value in gold_curves(rewards, gold, k).items():
                for kind in ("all", "adversarial" if is_safety(prompt) else "harmless"):
                    found[kind][way][place].append(value)
    return found


def main() -> None:
    """Run the stage, draw the samples again, ask the gold reward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="sft")
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--num-samples", type=int, default=16)
    parser.add_argument("--temperatures", default="0.7,1.0,1.3,1.6")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()

    settings, run = stage_of(options)
    settings.run(run)
    ks = sizes(options.num_samples)
    told: dict[str, Any] = {}
    for kind, ways in gold_values(settings, run, ks).items():
        gained = [one - other for one, other in zip(ways["chosen"][-1], ways["random"][-1], strict=True)]
        curves = {way: [[round(value, 4) for value in mean_interval(values)] for values in at] for way, at in ways.items()}
        told[kind] = {"prompts": len(gained), "gain": [round(value, 4) for value in mean_interval(gained)], **curves}
    result = {"benchmark": "gold best of k", "model": options.model, "k": list(ks), "summary": run.summary, "gold": told, "machine": machine_facts("torch")}
    give_result(json.loads(json.dumps(result, default=float)), options.write)


if __name__ == "__main__":
    main()
