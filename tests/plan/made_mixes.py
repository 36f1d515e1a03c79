"""Made runs on data mixes whose laws are known: which mix is best at a large compute, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from herdling.plan.measurements import MixRows
from herdling.plan.scaling_law import Array

EXPONENT = 0.35
# For each mix and source: E, A at 1e8 parameters, B at 1e10 tokens.
LAWS = {
    "web": {"web": (2.0, 0.50, 0.50), "code": (1.2, 0.60, 0.70)},
    "half code": {"web": (2.1, 0.50, 0.55), "code": (0.9, 0.55, 0.60)},
    "code": {"web": (2.4, 0.60, 0.60), "code": (0.8, 0.50, 0.55)},
}


def true_loss(mix: str, source: str, parameters: Array | float, tokens: Array | float) -> Array:
    """Return the loss that the made world gives a run."""
    floor, size, data = LAWS[mix][source]
    return np.asarray(floor + size * (np.asarray(parameters) / 1e8) ** -EXPONENT + data * (np.asarray(tokens) / 1e10) ** -EXPONENT)


def made_mixes(*, noise: float = 0.0, seed: int = 0, ratios: tuple[float, ...] = (20.0, 60.0), num_sizes: int = 4) -> MixRows:
    """Return runs of each mix at sizes from 1e7 to 1e8 and these ratios of tokens to parameters; `noise` moves all losses of a run, and each, in log."""
    random = np.random.default_rng(seed)
    sizes, per = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e8, num_sizes), ratios))
    parameters, tokens = np.tile(sizes, len(LAWS)), np.tile(sizes * per, len(LAWS))
    mixes = tuple(np.repeat(list(LAWS), len(sizes)).tolist())
    luck = noise * random.standard_normal(len(mixes))
    losses = {
        source: np.array([float(true_loss(mix, source, n, d)) for mix, n, d in zip(mixes, parameters, tokens, strict=True)])
        * np.exp(0.7 * luck + 0.7 * noise * random.standard_normal(len(mixes)))
        for source in ("web", "code")
    }
    return MixRows(name="made", flops=6 * parameters * tokens, parameters=parameters, tokens=tokens, mixes=mixes, losses=losses)


def write_mixes(path: Path, rows: MixRows) -> Path:
    """Write runs with the columns of a file of mixes."""
    lines = ["mix,N,D," + ",".join(f"loss_{source}" for source in rows.losses)]
    for row, mix in enumerate(rows.mixes):
        lines.append(f"{mix},{rows.parameters[row]:.10g},{rows.tokens[row]:.10g}," + ",".join(f"{loss[row]:.10g}" for loss in rows.losses.values()))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
