"""What PPO's settings do to a miniature, by the gold reward of the simulated annotator, which no training sees. Prints one JSON line a run.

    python benchmarks/gold_ppo.py --run runs/rewards-mini --out FOLDER [--model sft_early] [--only NAME ...] [--seeds 1] [--write FILE]

Reads the finished stages prepare_data, sft or sft_early, reward_helpfulness and reward_safety of `recipes/rewards-mini.toml`. Each variant is the stage ppo
with one setting changed; then its policy and the model that it began as answer all held-out questions, with the same seeds at temperature 1, and greedily.
Told for each: mean gold reward (by helpfulness for harmless prompts, by safety for adversarial ones), its gain over the beginning question by question, both
with 95 % intervals, the learned reward and the KL at the best look, how many answers ended, and their length. One to three minutes a run on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gold_best_of_k import tagged
from machine import machine_facts
from result import give_result

from herdling.base.decode import decode
from herdling.base.intervals import mean_interval
from herdling.base.records import dialog_to_row, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.prompts import is_safety
from herdling.generate.loaded import LoadedModel, load
from herdling.stages.ppo import Ppo
from herdling.stages.registry import StageRun
from herdling.stages.sft import dialogs_of
from herdling.starter.taste import gold_reward, questions_of
from herdling.types import Question, Sampling

BASE: dict[str, Any] = {
    "model": "chat",
    "rewards": {"helpfulness": "reward_helpfulness", "safety": "reward_safety"},
    "data": "data",
    "max_tokens": 48,
    "batch": 128,
    "mini_batch": 32,
    "iterations": 30,
    "evaluations": 6,
    "held_out_prompts": 256,
    "patience": 0,
    "loop": {"device": "cpu", "dtype": "float32", "checkpoint": {"every_seconds": 1e9}},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    **{f"lr {lr:g}": {"optimizer": {"lr": lr}} for lr in (3e-5, 1e-4, 3e-4, 1e-3)},
    "beta 0": {"beta": 0.0},
    "beta 0.05": {"beta": 0.05},
    "beta 0.2": {"beta": 0.2},
    "critic as fast": {"critic_lr": 1e-4},
    "critic policy": {"critic": "policy"},
    "k3": {"advantages": {"kl_estimator": "k3"}},
    "lam 1": {"advantages": {"lam": 1.0}},
    "helpfulness alone": {"rewards": {"helpfulness": "reward_helpfulness"}},
    "trl": {"advantages": {"formulas": "trl"}},
    "steady": {"optimizer": {"lr": 1e-4}, "critic_lr": 2e-3, "batch": 256, "mini_batch": 64, "iterations": 24},
    "large steps": {"optimizer": {"lr": 1e-4}, "critic_lr": 2e-3, "batch": 512, "mini_batch": 128, "iterations": 16, "evaluations": 4, "beta": 0.05},
    "long": {"iterations": 120},
    "over": {"iterations": 120, "beta": 0.0, "optimizer": {"lr": 3e-4}},
}


def train(name: str, settings: Mapping[str, Any], inputs: Mapping[str, Path], folder: Path, seed: int) -> tuple[LoadedModel, dict[str, Any]]:
    """Run the stage; return the model that came out, and its curve."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = StageRun(name="ppo", folder=folder, seed=seed, inputs=inputs)
    decode(Ppo, {**BASE, **settings}, f"variant {name}").run(run)
    return load(folder), run.summary


def gold_of(model: LoadedModel, questions: Sequence[Question]) -> dict[str, Any]:
    """Ask both ways; return the gold reward of each answer, and what the answers are like."""
    dialogs = [question.dialog for question in questions]
    warm = [Sampling(temperature=1.0, top_p=1.0, max_tokens=48, seed=stream_seed(0, "gold", number)) for number in range(len(dialogs))]
    found: dict[str, Any] = {}
    for how, sampling in (("sampled", warm), ("greedy", Sampling(temperature=0.0, max_tokens=48))):
        answers = model.chat_batch(dialogs, sampling)
        campaigns = ("safety" if is_safety(dialog) else "helpfulness" for dialog in dialogs)
        found[how] = [gold_reward(question, one.message.content, kind) for question, one, kind in zip(questions, answers, campaigns, strict=True)]
        found[f"{how} ended"] = round(sum(one.stop_reason == "end_of_turn" for one in answers) / len(answers), 3)
        found[f"{how} tokens"] = round(statistics.mean(len(one.token_ids) for one in answers), 1)
    return found


def told(found: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return means with intervals, and the gain over what was before."""
    said: dict[str, Any] = {name: value for name, value in found.items() if not isinstance(value, list)}
    for how in ("sampled", "greedy"):
        said[f"gold {how}"] = [round(value, 3) for value in mean_interval(found[how])]
        gained = [one - other for one, other in zip(found[how], before[how], strict=True)]
        said[f"gain {how}"] = [round(value, 3) for value in mean_interval(gained)]
    return said


def main() -> None:
    """Train and measure each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="sft_early", help="the stage of RUN whose model PPO begins with")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    dialogs = {split: [tagged(dialog) for dialog in dialogs_of(options.run / "prepare_data", split)] for split in ("train", "validation")}
    for split, rows in dialogs.items():
        write_jsonl(options.out / "data" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, rows))
    inputs = {name: options.run / name for name in ("reward_helpfulness", "reward_safety")} | {
        "chat": options.run / options.model,
        "data": options.out / "data",
    }
    questions = [question for dialog in dialogs["validation"] for question in questions_of(dialog)]
    before = gold_of(load(inputs["chat"]), questions)
    lines: list[dict[str, Any]] = [{"variant": options.model, "questions": len(questions), **told(before, before)}]
    print(json.dumps(lines[0]), flush=True)
    for name in options.only:
        for seed in range(1, options.seeds + 1):
            start = time.perf_counter()
            model, summary = train(name, VARIANTS[name], inputs, options.out / f"{name.replace(' ', '_')}_{seed}", seed)
            learned = {key: summary[key] for key in ("iterations", "held_out_reward_before", "held_out_reward", "held_out_kl", "best_iteration")}
            seconds = round(time.perf_counter() - start, 1)
            lines.append({"variant": name, "seed": seed, **learned, **told(gold_of(model, questions), before), "seconds": seconds})
            print(json.dumps(lines[-1]), flush=True)
    give_result({"benchmark": "gold_ppo", "base": BASE, **machine_facts("torch", "herdling"), "results": lines}, options.write)


if __name__ == "__main__":
    main()
