"""Iterations of PPO in answers a second, ours against TRL 1.12's `PPOTrainer`, on real miniature models, in turn. Prints one JSON line.

    python benchmarks/bench_ppo.py --run runs/rewards-mini --trl-python PATH [--batch 256] [--max-tokens 32] [--rounds 5] [--write FILE]

`--run` is a finished run of `recipes/rewards-mini.toml`. Each contestant is a process of its own (`ppo_worker.py`) on all cores, in float32, with the same
models, prompts, sampling, mini-batches and steps: an iteration is sampling, scoring, the reference and all steps. TRL generates the whole batch at once, its
fastest, and runs with and without our allocator setting; the faster one is compared. A ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from machine import machine_facts
from result import give_result

from herdling.base.records import dialog_from_row, dialog_to_row, read_jsonl, write_jsonl
from herdling.data.prompts import prompts_of
from herdling.generate.loaded import load
from herdling.model.precision import num_cores
from herdling.types import Message

WORKER = Path(__file__).with_name("ppo_worker.py")


class Contestant:
    """A running worker, and what it told of each round."""

    def __init__(self, setting: dict[str, Any], python: str) -> None:
        self.setting = setting
        self.name = " ".join(part for part in (setting["who"], setting["dtype"], "allocator" * setting["allocator"]) if part)
        command = [python, str(WORKER), json.dumps(setting)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.first = self._answer()
        self.rounds: list[dict[str, Any]] = []

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"seconds"'):  # TRL's trainer prints beside
                answer: dict[str, Any] = json.loads(line)
                return answer
        assert self.process.stderr is not None
        raise RuntimeError(f"{self.name} ended with code {self.process.wait()}: {self.process.stderr.read()[-2000:]}")

    def run(self, iterations: int) -> None:
        """Run a round of so many iterations."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{iterations}\n")
        self.process.stdin.flush()
        self.rounds.append(self._answer())

    def close(self) -> None:
        """End the worker."""
        self.process.kill()
        self.process.wait()

    def speeds(self) -> list[float]:
        """Return answers a second, one number a round."""
        return [self.setting["batch"] / statistics.median(one["seconds"]) for one in self.rounds]

    def told(self) -> dict[str, Any]:
        """Return what is written down of it."""
        tokens = sum(sum(one["tokens"]) for one in self.rounds) / sum(len(one["tokens"]) for one in self.rounds)
        speed = statistics.median(self.speeds())
        peak = round(self.rounds[-1]["peak_rss_mib"])
        return {"answers_per_second": round(speed, 1), "tokens_per_answer": round(tokens / self.setting["batch"], 2), "peak_rss_mib": peak}


def write_prompts(run: Path, folder: Path, count: int, max_tokens: int) -> dict[str, str]:
    """Write prompts of one turn as dialogs for ours and as ids for TRL's; return where they are, and the token that ends a turn."""
    policy = load(run / "sft")
    dialogs = (dialog_from_row(row, "train") for _, row in read_jsonl(run / "prepare_data" / "dialogs" / "train.jsonl"))
    room = policy.config.max_position_embeddings - max_tokens - 8
    chosen = list(islice((one for one in prompts_of(dialogs) if len(one.messages) == 1 and policy.chat_length(one) <= room), count))
    answer = Message(role="assistant", content="x")  # ours takes prompts from dialogs: each turn of a user that was answered
    write_jsonl(folder / "dialogs.jsonl", (dialog_to_row(replace(one, messages=(*one.messages, answer))) for one in chosen))
    (folder / "prompts.json").write_text(json.dumps([policy.chat_format.encode(one, generate=True).ids for one in chosen]), encoding="utf-8")
    names = {index: name for name, index in policy.tokenizer.special_ids.items()}
    return {"prompts": str(folder / "prompts.json"), "dialogs": str(folder / "dialogs.jsonl"), "end_of_turn": names[policy.chat_format.end_of_turn_id]}


def main() -> None:
    """Run all and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--trl-python", required=True, help="the Python of an environment with trl 1.12")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--mini-batches", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    facts = machine_facts("torch", "herdling")
    code = "from importlib.metadata import version as v; print(*map(v, ('trl', 'transformers', 'torch', 'accelerate')))"
    found = subprocess.run([options.trl_python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    facts["versions"] |= {f"peer {name}": number for name, number in zip(("trl", "transformers", "torch", "accelerate"), found, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        shared = write_prompts(options.run, Path(folder), options.prompts, options.max_tokens)
        sizes = {"batch": options.batch, "mini_batches": options.mini_batches, "max_tokens": options.max_tokens, "threads": num_cores(), "dtype": "float32"}
        base = {"run": str(options.run), **shared, **sizes}
        ours = Contestant(base | {"who": "herdling", "allocator": True}, sys.executable)
        theirs = [Contestant(base | {"who": "trl", "allocator": allocator}, options.trl_python) for allocator in (False, True)]
        for _ in range(options.rounds):
            for runner in (ours, *theirs):
                runner.run(1)
        for runner in (ours, *theirs):
            runner.close()
    best = max(theirs, key=lambda one: statistics.median(one.speeds()))
    ratio = statistics.median(own / other for own, other in zip(ours.speeds(), best.speeds(), strict=True))
    results = {runner.name: runner.told() for runner in (ours, *theirs)}
    command = f"benchmarks/bench_ppo.py --run RUN --trl-python PATH --batch {options.batch} --mini-batches {options.mini_batches} --rounds {options.rounds}"
    about = {"command": command, **facts, **sizes}
    give_result({"benchmark": "ppo", **about, "results": results, "ratios": {f"{ours.name} / {best.name}": round(ratio, 2)}}, options.write)


if __name__ == "__main__":
    main()
