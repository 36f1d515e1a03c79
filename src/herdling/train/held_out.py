"""The reward of a policy on held-out prompts: when it no longer rises, PPO stops, and the weights of its best point are kept (Llama 2, section 3.2.3).

Every measurement asks the same prompts with the same random numbers, so that two points differ by their weights alone. Writes `held_out/ITERATION.json` and
`best/ITERATION/` into its folder; a measurement that stands there for the same weights is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.seeds import stream_seed
from herdling.train.experience import means_of
from herdling.types import Dialog, Rollout

Sample = Callable[[Sequence[Dialog], Sequence[int]], list[Rollout]]
"""(prompts, seeds) -> one answer each, by the weights as they are now."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Held-out prompts, and the points at which they were asked. A point is the beginning of an iteration, or the end of the last."""

    prompts: Sequence[Dialog]
    sample: Sample
    save: Callable[[Path], None]
    """Writes the policy as it is now into a folder."""
    folder: Path
    every: int
    """Iterations between two points."""
    patience: int
    """Stop after so many points in a row without a new best; 0: never."""
    seed: int

    def measure(self, iteration: int, weights: str, kl: Callable[[Sequence[Rollout]], float]) -> Row:
        """Ask the prompts, keep the policy if it is the best so far, and write the point down.

        `weights` says which weights these are; `kl` returns the mean KL of answers to the reference, in nats an answer.
        """
        path = self._path(iteration)
        if path.is_file() and (row := _read(path))["weights"] == weights:
            return row
        seeds = [stream_seed(self.seed, "held out", number) for number in range(len(self.prompts))]
        rollouts = self.sample(self.prompts, seeds)
        row = {"iteration": iteration, "weights": weights, **means_of(rollouts), "kl": kl(rollouts)}
        before = self.points(iteration - 1)
        is_best = all(_reward(other) < _reward(row) for other in before)
        if is_best:
            self.save(self.best_folder(iteration))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, row)
        for other in before if is_best else ():
            remove(self.best_folder(other["iteration"]))
        return row

    def is_over(self, iteration: int) -> bool:
        """Say whether the reward had stopped to rise when this iteration would begin."""
        points = self.points(iteration)
        since_best = len(points) - 1 - max(range(len(points)), key=lambda place: (_reward(points[place]), -place), default=0)
        return self.patience > 0 and since_best >= self.patience

    def points(self, until: int) -> list[Row]:
        """Return the points up to that of an iteration, in order."""
        paths = sorted((self.folder / "held_out").glob("*.json"))
        return [_read(path) for path in paths if int(path.stem) <= until]

    def best(self, until: int) -> Row:
        """Return the point with the highest reward, the earliest of equals."""
        return max(self.points(until), key=lambda row: (_reward(row), -row["iteration"]))

    def best_folder(self, iteration: int) -> Path:
        """Return where the policy of a point lies, if it was the best."""
        return self.folder / "best" / f"{iteration:05d}"

    def _path(self, iteration: int) -> Path:
        return self.folder / "held_out" / f"{iteration:05d}.json"


def _reward(row: Row) -> float:
    """Return the reward of a point; where no answer could be judged it is the worst there is."""
    return -float("inf") if row["reward"] is None else float(row["reward"])


def _read(path: Path) -> Row:
    row: Row = json.loads(path.read_text(encoding="utf-8"))
    return row
