"""A made ladder: tasks whose bits follow one exponent and whose accuracy follows a sigmoid of them, so that every forecast has a right answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from herdling.plan.ladder import LadderRun, TaskCurve
from herdling.plan.sigmoid import Sigmoid

EXPONENT = 0.3
# E, A at 1e9 parameters, B at 1e11 tokens; then the sigmoid.
TASKS = {
    "easy": ((0.3, 0.2, 0.15), Sigmoid(top=1.0, drop=0.75, slope=6.0, middle=0.7)),
    "middle": ((0.5, 0.3, 0.1), Sigmoid(top=1.0, drop=0.75, slope=5.0, middle=0.8)),
    "hard": ((0.6, 0.1, 0.3), Sigmoid(top=1.0, drop=0.8, slope=4.0, middle=0.9)),
}


def true_bits(task: str, parameters: float, tokens: float) -> float:
    """Return the bits per byte that the made world gives a run."""
    floor, size, data = TASKS[task][0]
    return float(floor + size * (parameters / 1e9) ** -EXPONENT + data * (tokens / 1e11) ** -EXPONENT)


def made_ladder(
    *, noise: float = 0.0, seed: int = 0, sizes: tuple[float, ...] = (1e8, 3e8, 1e9, 3e9, 1e10), ratios: tuple[float, ...] = (10, 20, 50, 100, 200)
) -> list[LadderRun]:
    """Return a run for each size and ratio of tokens to parameters; `noise` moves bits (in log) and, a tenth of it each, accuracy."""
    random = np.random.default_rng(seed)
    runs = []
    for parameters in sizes:
        for ratio in ratios:
            tasks = {}
            for task, (_, sigmoid) in TASKS.items():
                bits = true_bits(task, parameters, ratio * parameters) * float(np.exp(noise * random.standard_normal()))
                accuracy = sigmoid.accuracy(bits) + 0.1 * noise * float(random.standard_normal())
                curve = np.array([bits]), np.array([accuracy])
                tasks[task] = TaskCurve(bits=curve[0], accuracy=curve[1], final_bits=bits, final_accuracy=accuracy)
            runs.append(
                LadderRun(
                    name=f"{parameters:g}-{ratio:g}x",
                    parameters=parameters,
                    tokens=ratio * parameters,
                    flops=6 * ratio * parameters**2,
                    marked=None,
                    tasks=tasks,
                )
            )
    return runs


def write_ladder(path: Path, runs: list[LadderRun]) -> Path:
    """Write a ladder with the columns of a file of final scores."""
    lines = ["run,N,D,task,bpb,acc"]
    lines += [
        f"{run.name},{run.parameters:.10g},{run.tokens:.10g},{task},{curve.final_bits:.10g},{curve.final_accuracy:.10g}"
        for run in runs
        for task, curve in run.tasks.items()
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
