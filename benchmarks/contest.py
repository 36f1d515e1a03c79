"""A contest of training steps: each contestant a process of its own (a worker script under its own Python), heats alone, then a final in turn.

Used by `bench_reward.py` and `bench_dpo.py`; not a benchmark itself. A worker prints a JSON line when it is ready, then reads numbers of steps and prints the
seconds of each (`worker.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import machine_facts
from result import give_result

from herdling.base.decode import encode
from herdling.base.seeds import stream
from herdling.base.units import parse_count
from herdling.model.dial import dial
from herdling.model.precision import num_cores

END = 2
Setting = dict[str, Any]
Pairs = list[list[list[int]]]
"""For each pair the ids of its prompt, of the chosen and of the rejected response."""


@dataclass
class Contestant:
    """A running worker, and the seconds of its steps, one list a round."""

    worker: Path
    setting: Setting
    python: str
    rounds: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        command = [self.python, str(self.worker), json.dumps(self.setting)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.facts = self._answer()
        self._run(1)
        self.second = self.rounds.pop()[0]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # TRL's trainer prints beside
                try:
                    answer: dict[str, Any] = json.loads(line)
                except ValueError:
                    continue
                return answer
        assert self.process.stderr is not None
        raise RuntimeError(f"{self.name} ended with code {self.process.wait()}: {self.process.stderr.read()[-2000:]}")

    def _run(self, steps: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.rounds.append(answer["seconds"])
        self.facts["peak_rss_mib"] = answer["peak_rss_mib"]

    def run(self, seconds: float) -> None:
        """Run a round of about this many seconds, at least two steps."""
        known = statistics.median(self.rounds[-1]) if self.rounds else self.second
        self._run(max(2, round(seconds / known)))

    def close(self) -> None:
        """End the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    @property
    def pairs_per_second(self) -> float:
        """The median over rounds of each round's median."""
        return len(self.setting["pairs"]) / statistics.median(statistics.median(times) for times in self.rounds)

    @property
    def name(self) -> str:
        """What it is, in words."""
        return " ".join(part for part in (self.setting["who"], self.setting["dtype"], "allocator" * self.setting["allocator"]) if part)

    @property
    def result(self) -> dict[str, float]:
        """What the final says of it. With a reference model (DPO): also pairs a second where each pair is trained on once, after one pass of the reference."""
        found = {"pairs_per_second": round(self.pairs_per_second, 1), "peak_rss_mib": round(self.facts["peak_rss_mib"])}
        if "reference_seconds" in self.facts:
            once = 1 / self.pairs_per_second + self.facts["reference_seconds"] / len(self.setting["pairs"])
            found["pairs_per_second_with_reference_pass"] = round(1 / once, 1)
        return found


def draw_pairs(count: int, prompt: int, *, mixed: bool) -> Pairs:
    """Return pairs of random ids, prompts four times as long as responses."""
    chance = stream(0, "bench reward", int(mixed))

    def ids(mean: int) -> list[int]:
        length = int(chance.integers(mean // 2, mean + mean // 2 + 1)) if mixed else mean
        return [int(token) for token in chance.integers(3, 4096, length)]

    return [[ids(prompt), [*ids(prompt // 4 - 1), END], [*ids(prompt // 4 - 1), END]] for _ in range(count)]


def fastest(worker: Path, settings: Sequence[Setting], python: str) -> tuple[Setting, dict[str, float]]:
    """Return which of these is the fastest alone, and the pairs a second of all."""
    speeds = {}
    for number, setting in enumerate(settings):
        runner = Contestant(worker, setting, python)
        runner.run(1.0)
        runner.close()
        speeds[number] = (runner.pairs_per_second, runner.name)
    best = max(speeds, key=lambda number: speeds[number][0])
    return settings[best], {name: round(speed, 1) for speed, name in speeds.values()}


def compare(worker: Path, ours: Sequence[str], theirs: Sequence[str], size: str, mixed: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Heats and final for one size and one kind of lengths. The first of `ours` is compared with all others; `theirs` run under TRL's Python."""
    config = dial(parse_count(size, where="--sizes"), vocab_size=4096, sequence_length=512).config
    pairs = draw_pairs(options.pairs, options.prompt, mixed=mixed)
    base = {"shape": encode(config), "pairs": pairs, "threads": num_cores()}
    fields: dict[str, tuple[str, tuple[bool, ...]]] = dict.fromkeys(ours, (sys.executable, (True,)))
    if options.trl_python:
        fields |= dict.fromkeys(theirs, (options.trl_python, (False, True)))
    finalists, heats = [], {}
    for who, (python, allocators) in fields.items():
        dtypes = options.dtypes.split(",")
        best, speeds = fastest(worker, [base | {"who": who, "dtype": dtype, "allocator": on} for dtype in dtypes for on in allocators], python)
        heats |= speeds
        finalists.append((best, python))
    runners = [Contestant(worker, setting, python) for setting, python in finalists]
    for _ in range(options.rounds):
        for runner in runners:
            runner.run(1.5)
    for runner in runners:
        runner.close()
    first = runners[0]
    ratios = {
        f"{first.name} / {peer.name}": round(
            statistics.median(statistics.median(other) / statistics.median(own) for other, own in zip(peer.rounds, first.rounds, strict=True)), 2
        )
        for peer in runners[1:]
    }
    final = {runner.name: runner.result for runner in runners}
    lengths = "mixed" if mixed else "equal"
    facts = {"size": size, "parameters": config.num_parameters(), "lengths": lengths, "tokens": token_counts(pairs)}
    return {**facts, "heats": heats, "final": final, "ratios": ratios}


def token_counts(pairs: Pairs) -> dict[str, int]:
    """Return how many positions a step takes with prompts once, with prompts repeated, and padded to the longest."""
    return {
        "shared": sum(len(part) for pair in pairs for part in pair),
        "repeated": sum(2 * len(pair[0]) + len(pair[1]) + len(pair[2]) for pair in pairs),
        "padded_to_longest": 2 * len(pairs) * max(len(pair[0]) + max(len(pair[1]), len(pair[2])) for pair in pairs),
    }


def contest(name: str, doc: str | None, worker: Path, ours: Sequence[str], theirs: Sequence[str]) -> None:
    """Read the options, run all, and print one line."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", default="float32,bfloat16", help="which take part in the heats")
    parser.add_argument("--sizes", default="1.3M,5M")
    parser.add_argument("--lengths", default="equal,mixed")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=160, help="tokens of a prompt; a response has a quarter")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trl-python", help="the Python of an environment with trl")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    facts = machine_facts("torch", "herdling")
    facts |= {"threads": num_cores(), "pairs_in_a_step": options.pairs, "prompt_tokens": options.prompt, "response_tokens": options.prompt // 4}
    if options.trl_python:
        facts["versions"] |= peer_versions(options.trl_python)
    kinds = [(size, lengths == "mixed") for size in options.sizes.split(",") for lengths in options.lengths.split(",")]
    results = [compare(worker, ours, theirs, size, mixed, options) for size, mixed in kinds]
    give_result({"benchmark": name, "command": " ".join(sys.argv), **facts, "results": results}, options.write)


def peer_versions(python: str) -> Mapping[str, str]:
    """Return the versions of what TRL's steps run on."""
    packages = ("trl", "transformers", "torch", "accelerate")
    code = f"from importlib.metadata import version as v; print(*map(v, {packages}))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return {f"peer {name}": number for name, number in zip(packages, found, strict=True)}
