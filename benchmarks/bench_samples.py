"""K samples of one prompt, which is read once, against as many answers to different prompts of the same length. Prints one JSON line.

    python benchmarks/bench_samples.py [--rounds 7] [--num-samples 16] [--write benchmarks/results/samples.json]

Models: the dial's shapes with random weights and 4,096 ids, float32. Two prompts at a time, so that K = 16 fills the rows of a group; sampled at temperature 1;
nothing stops early. What is compared is the cost of reading a prompt K times. In a round each way goes once, in turn; the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine_facts
from result import give_result

from herdling.generate.engine import Engine, Request
from herdling.model.dial import dial
from herdling.model.transformer import Llama
from herdling.types import Sampling

NUM_PROMPTS = 2
SIZES = {"1M": 1.3e6, "15M": 16e6}
SHAPES = ((40, 12), (200, 12), (200, 48))
"""(tokens of the prompt, tokens of the answer): the starter's, a longer dialog's, a longer answer's."""


def requests(prompts: torch.Tensor, num_tokens: int) -> list[Request]:
    return [Request(prompt, Sampling(temperature=1.0, top_p=1.0, max_tokens=num_tokens, seed=seed)) for seed, prompt in enumerate(prompts.tolist())]


def measure(engine: Engine, length: int, num_tokens: int, num_samples: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of both ways, and their ratio."""
    draw = torch.Generator().manual_seed(0)
    different = torch.randint(0, 4096, (NUM_PROMPTS * num_samples, length), generator=draw)
    shared = different[:NUM_PROMPTS].repeat_interleave(num_samples, 0)
    ways = {"shared": requests(shared, num_tokens), "read_each": requests(different, num_tokens)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, asked in ways.items():
            started = time.perf_counter()
            engine.generate(asked)
            if number:  # the first is to warm up
                seconds[name].append(time.perf_counter() - started)
    gains = [each / once for once, each in zip(seconds["shared"], seconds["read_each"], strict=True)]
    middle = {name: round(statistics.median(found), 4) for name, found in seconds.items()}
    return {
        "prompt_tokens": length,
        "new_tokens": num_tokens,
        **middle,
        "gain": round(statistics.median(gains), 2),
        "gains": [round(gain, 2) for gain in gains],
    }


def main() -> None:
    """Measure each size and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--num-samples", type=int, default=16)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for size, parameters in SIZES.items():
        model = Llama(dial(parameters, vocab_size=4096, sequence_length=1024).config)
        model.init_weights(1)
        engine = Engine(model.eval(), None)
        results[size] = [measure(engine, *shape, arguments.num_samples, arguments.rounds) for shape in SHAPES]
    told = {
        "benchmark": "samples",
        "num_samples": arguments.num_samples,
        "threads": torch.get_num_threads(),
        "sizes": results,
        "machine": machine_facts("torch"),
    }
    give_result(told, arguments.write)


if __name__ == "__main__":
    main()
