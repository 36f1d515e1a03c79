"""A made sweep of a law that is known: what a fit must give back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from herdling.plan.measurements import LossRows
from herdling.plan.scaling_law import ParametricLaw

TRUTH = ParametricLaw(E=1.7, A=400.0, B=1200.0, alpha=0.34, beta=0.36)


def made_sweep(law: ParametricLaw = TRUTH, *, noise: float = 0.0, seed: int = 0, num_budgets: int = 6, sizes: int = 9, reach: float = 1.0) -> LossRows:
    """Return budgets from 1e18 up, sizes around each optimum over `reach` factors of e to both sides, log-normal noise on the loss."""
    flops, parameters = [], []
    for budget in 10 ** np.linspace(18, 18 + 0.5 * (num_budgets - 1), num_budgets):
        centre = law.allocate(float(budget)).parameters
        flops += [budget] * sizes
        parameters += list(centre * np.exp(np.linspace(-reach, reach, sizes)))
    compute, size = np.array(flops), np.array(parameters)
    tokens = compute / 6 / size
    loss = law.loss(size, tokens) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(size)))
    return LossRows(name="made", flops=compute, parameters=size, tokens=tokens, loss=loss, lines=tuple(range(2, len(size) + 2)), convention="parameters")


def write_sweep(path: Path, rows: LossRows) -> Path:
    """Write a sweep with the columns of an isoFLOP file."""
    lines = ["compute_budget,training_tokens,validation_loss"]
    lines += [f"{c:.10g},{d:.10g},{loss:.10g}" for c, d, loss in zip(rows.flops, rows.tokens, rows.loss, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
