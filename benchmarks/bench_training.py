"""Training steps (forward, backward, AdamW), tokens a second and memory, against transformers and litgpt in the same run. Prints one JSON line.

    python benchmarks/bench_training.py [--quick] [--sizes 1.3M,5M,15M,50M] [--lengths 256,512] [--litgpt-python PATH] [--write FILE]

Each contestant is a process of its own (`training_worker.py`) on all cores, with the dial's shapes, 4,096 ids and 2,048 tokens a step. Heats, alone, one
after the other: every peer in float32 and bfloat16 autocast, as it comes and with our allocator setting, and ours in both. Final: the fastest peer of each
kind and our fastest, eager and compiled, in turn, so that all meet the same disturbances; a ratio is the median over rounds. Ours clips and keeps float32
masters; the peers do neither. litgpt needs an environment of its own: name its Python, or it is left out. `share_of_peak` divides by the measured peak of
products, in the better dtype.
Memory: peak resident size of a process that trains 5M parameters' body on 2,048 tokens of 128,256 ids, two steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import machine_facts
from result import give_result

from herdling.base.decode import encode
from herdling.base.units import parse_count
from herdling.model.config import LlamaConfig
from herdling.model.dial import dial
from herdling.model.precision import matrix_peak, num_cores

WORKER = Path(__file__).with_name("training_worker.py")
TOKENS = 2048
PEERS = ("transformers-sdpa", "transformers-eager", "litgpt")
Setting = dict[str, Any]


@dataclass
class Contestant:
    """A running worker, and the seconds of its steps, one list a round."""

    setting: Setting
    python: str
    rounds: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        command = [self.python, str(WORKER), json.dumps(self.setting)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.setting['who']} ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, seconds: float) -> None:
        """Run a round of about this many seconds, at least two steps."""
        known = statistics.median(self.rounds[-1]) if self.rounds else self.facts["second_step_seconds"]
        assert self.process.stdin is not None
        self.process.stdin.write(f"{max(2, round(seconds / known))}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.rounds.append(answer["seconds"])
        self.facts["peak_rss_mib"] = answer["peak_rss_mib"]

    def close(self) -> None:
        """End the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    @property
    def tokens_per_second(self) -> float:
        """The median over rounds of each round's median."""
        return TOKENS / statistics.median(statistics.median(times) for times in self.rounds)

    @property
    def name(self) -> str:
        """What it is, in words."""
        parts = [self.setting["who"], self.setting["dtype"], "compiled" * self.setting["compile"], "allocator" * self.setting["allocator"]]
        return " ".join(part for part in parts if part)


def heat(setting: Setting, python: str) -> tuple[float, str]:
    """Return how fast one contestant is alone, by its fastest step (others on the machine only ever add time), and its name."""
    runner = Contestant(setting, python)
    runner.run(1.0)
    runner.close()
    return TOKENS / min(runner.rounds[0]), runner.name


def final(settings: list[tuple[Setting, str]], rounds: int) -> list[Contestant]:
    """Let these run in turn, and return them with their times."""
    runners = [Contestant(setting, python) for setting, python in settings]
    for _ in range(rounds):
        for runner in runners:
            runner.run(1.5)
    for runner in runners:
        runner.close()
    return runners


def compare(config: LlamaConfig, length: int, pythons: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Heats and final for one shape and sequence length."""
    base = {"shape": encode(config), "rows": TOKENS // length, "length": length, "threads": num_cores(), "matmul_precision": "highest"}

    def setting(who: str, dtype: str, *, compile_it: bool = False, allocator: bool = False) -> tuple[Setting, str]:
        made = base | {"who": who, "dtype": dtype, "compile": compile_it, "allocator": allocator}
        return made, pythons.get(who.split("-")[0], sys.executable)

    dtypes = options.dtypes.split(",")
    heats, best = {}, {}
    for allocator in (False, True):
        fields = [setting(who, dtype, allocator=allocator) for who in PEERS if who != "litgpt" or "litgpt" in pythons for dtype in dtypes]
        speeds = [(heat(*one), one) for one in fields]
        heats |= {name: round(speed) for (speed, name), _ in speeds}
        best[allocator] = max(speeds, key=lambda item: item[0][0])[1]
    own = [(heat(*one), one) for one in (setting("herdling", dtype, allocator=True) for dtype in dtypes)]
    heats |= {name: round(speed) for (speed, name), _ in own}
    our, python = max(own, key=lambda item: item[0][0])[1]
    ours = [(our, python), (our | {"compile": True}, python)]
    peers = [best[False], best[True]]
    if options.compiled_peer:
        peers.append((best[True][0] | {"compile": True}, best[True][1]))
    runners = final([*peers, *ours], 2 if options.quick else options.rounds)
    return {"parameters": config.num_parameters(), "length": length, "heats": heats, **_result(config, length, runners, num_peers=len(peers))}


def _result(config: LlamaConfig, length: int, runners: list[Contestant], *, num_peers: int) -> dict[str, Any]:
    peak, flops = max(map(matrix_peak, (torch.float32, torch.bfloat16))), config.flops_per_token(length)
    ratios = {}
    for our in runners[num_peers:]:
        for peer in runners[:num_peers]:
            pairs = zip(peer.rounds, our.rounds, strict=True)
            ratios[f"{our.name} / {peer.name}"] = round(statistics.median(statistics.median(theirs) / statistics.median(own) for theirs, own in pairs), 2)
    shown = {
        runner.name: {
            "tokens_per_second": round(runner.tokens_per_second),
            "share_of_peak": round(runner.tokens_per_second * flops / peak, 3),
            "first_step_seconds": round(runner.facts["first_step_seconds"], 1),
            "peak_rss_mib": round(runner.facts["peak_rss_mib"]),
        }
        for runner in runners
    }
    return {"final": shown, "ratios": ratios, "peak_gflops": round(peak / 1e9)}


def memory(pythons: dict[str, str]) -> dict[str, Any]:
    """Peak resident memory of two steps at a vocabulary of 128,256."""
    config = LlamaConfig(**{**encode(dial(5e6, vocab_size=4096).config), "vocab_size": 128_256})
    base = {"shape": encode(config), "rows": 8, "length": 256, "threads": num_cores(), "compile": False, "allocator": False}
    found = {}
    for who, dtype in [("herdling", "bfloat16"), ("herdling", "float32"), *((peer, dtype) for peer in PEERS for dtype in ("bfloat16", "float32"))]:
        if who != "litgpt" or "litgpt" in pythons:
            runner = Contestant(base | {"who": who, "dtype": dtype}, pythons.get(who, sys.executable))
            runner.close()
            found[runner.name] = {"peak_rss_mib": round(runner.facts["peak_rss_mib"]), "before_steps_mib": round(runner.facts["rss_before_mib"])}
    return found


def main() -> None:
    """Run all and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one size and length, two rounds")
    parser.add_argument("--sizes", default="1.3M,5M,15M,50M")
    parser.add_argument("--lengths", default="256,512")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="which run in the heats, for peers and ours alike")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compiled-peer", action="store_true", help="the fastest peer also compiled, in the final")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory at 128,256 ids")
    parser.add_argument("--litgpt-python", help="the Python of an environment with litgpt")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    pythons = {"litgpt": options.litgpt_python} if options.litgpt_python else {}
    sizes, lengths = (["1.3M"], ["256"]) if options.quick else (options.sizes.split(","), options.lengths.split(","))
    facts = machine_facts("torch", "transformers", "herdling")
    if pythons:
        facts["versions"]["litgpt"] = _version_in(pythons["litgpt"], "litgpt")
    results = [
        compare(dial(parse_count(size, where="--sizes"), vocab_size=4096, sequence_length=int(length)).config, int(length), pythons, options)
        for size in sizes
        for length in lengths
    ]
    found = {"benchmark": "training", "command": " ".join(sys.argv), **facts, "results": results}
    if not options.no_memory:
        found["memory_at_128256_ids"] = memory(pythons)
    give_result(found, options.write)


def _version_in(python: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
