"""PPO's batches: a feed that samples from the model that is being trained (Llama 2, section 3.2.3). There is no second loop.

Each iteration asks `batch` prompts for one answer with the weights as they are, has it scored, takes log-probabilities, values and those of the reference by
the trainer's own forward, on the very rows that will be trained, and yields these rows as mini-batches of one step each. All is on disk before the first step,
so an iteration that was interrupted goes on with the same answers; prompts, seeds and mini-batches are functions of (seed, iteration). What a run must hold is
checked here: the generator's probabilities near the trainer's (always), KL 0 at the start, centred advantages; ratios of 1 are checked by the loss.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from herdling.base.artifact import remove, value_fingerprint, write_json_atomic
from herdling.base.errors import CheckpointError
from herdling.base.seeds import stream, stream_seed
from herdling.checkpoint.training import Checkpoints
from herdling.train.advantages import kl_estimate, next_beta
from herdling.train.config import AdvantageConfig
from herdling.train.experience import Experience, facts_of, targets_of
from herdling.train.held_out import HeldOut, Row, Sample
from herdling.train.ppo_forward import PpoChecks, PpoForward
from herdling.train.ppo_loss import PpoBatch
from herdling.train.rollouts import PackedRollouts, pack_rollouts, ppo_batch, read_experience, write_experience
from herdling.types import Dialog, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class KlControl:
    """The weight of the KL penalty: fixed, or moved towards a KL of `target` nats an answer (Ziegler et al. 2019)."""

    beta: float
    target: float | None = None
    horizon: int = 10_000


@dataclass(slots=True, kw_only=True)
class PpoFeed:
    """A `Feed` over iterations of PPO. Ends early when the held-out reward no longer rises."""

    forward: PpoForward
    checks: PpoChecks
    sample: Sample
    prompts: Sequence[Dialog]
    held_out: HeldOut | None
    folder: Path
    """Of the stage. The feed writes below `ppo/` and looks which checkpoints there are."""
    seed: int
    batch: int
    mini_batch: int
    iterations: int
    row_length: int
    pad_id: int
    advantages: AdvantageConfig
    kl: KlControl
    note: Callable[[str], None] = lambda line: None
    fingerprint: str = field(init=False)
    _order: Callable[[int], NDArray[np.int64]] = field(init=False)

    def __post_init__(self) -> None:
        asked = sha256("\n".join(prompt.id for prompt in self.prompts).encode()).hexdigest()
        self.fingerprint = value_fingerprint(["ppo", 1, self.seed, self.batch, self.mini_batch, self.row_length, asked])
        self._order = lru_cache(maxsize=2)(lambda epoch: stream(self.seed, "prompts", epoch).permutation(len(self.prompts)))

    @property
    def steps_per_iteration(self) -> int:
        """One step for each mini-batch."""
        return self.batch // self.mini_batch

    def batches(self, step: int) -> Iterator[PpoBatch]:
        """Yield the mini-batches from this step on."""
        first, done = divmod(step, self.steps_per_iteration)
        for iteration in range(first, self.iterations):
            skipped = done if iteration == first else 0
            if not skipped and self.held_out is not None:
                if iteration % self.held_out.every == 0:
                    self.look(iteration)
                if self.held_out.is_over(iteration):
                    self.note(f"the held-out reward no longer rises: PPO ends before iteration {iteration:,} of {self.iterations:,}")
                    return
            experience, beta = self._experience(iteration, begun=skipped > 0)
            yield from islice(self._mini_batches(iteration, experience, beta), skipped, None)

    def look(self, iteration: int) -> None:
        """Measure the policy on the held-out prompts, as it is where this iteration would begin."""
        assert self.held_out is not None
        self.held_out.measure(iteration, self.forward.weights(), self.kl_of)

    def rows(self) -> list[Row]:
        """Return what was written down about each iteration."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.folder / "ppo" / "iterations").glob("*.json"))]

    def kl_of(self, rollouts: Sequence[Rollout]) -> float:
        """Return the mean KL of these answers to the reference, in nats an answer (k1)."""
        total = 0.0
        for start in range(0, len(rollouts), self.mini_batch):
            said = self.forward.of(pack_rollouts(rollouts[start : start + self.mini_batch], self.row_length, self.pad_id).batch)
            total += float(kl_estimate(said.logprobs, said.reference, "k1").sum())
        return total / len(rollouts)

    def _experience(self, iteration: int, *, begun: bool) -> tuple[Experience, float]:
        """Return the answers of an iteration and its beta, from disk where these weights have given them."""
        path = self._rollouts_path(iteration)
        if begun and not path.is_file():
            raise CheckpointError(f"{path}: is gone, so this iteration cannot go on. Remove {self.folder / 'checkpoints'} to train from the start")
        weights = "" if begun else self.forward.weights()
        if path.is_file():
            experience, facts = read_experience(path)
            if begun or facts["weights"] == weights:
                self._write_row(iteration, facts)
                return experience, facts["beta"]
        experience, beta = self._made(iteration), self._beta(iteration)
        facts = {"iteration": iteration, "weights": weights, **facts_of(experience, targets_of(experience, beta, self.advantages), beta)}
        self.checks.check(iteration, facts)
        write_experience(path, experience, facts)
        self._write_row(iteration, facts)
        self._forget_old()
        return experience, beta

    def _made(self, iteration: int) -> Experience:
        """Ask the policy, and score what it says with the trainer's forward, on the rows of each mini-batch."""
        places = range(iteration * self.batch, (iteration + 1) * self.batch)
        asked = [self.prompts[int(self._order(place // len(self.prompts))[place % len(self.prompts)])] for place in places]
        rollouts = self.sample(asked, [stream_seed(self.seed, "answer", place) for place in places])
        width = max(len(one.response_ids) for one in rollouts)
        logprobs, reference, values = torch.zeros(self.batch, width), torch.zeros(self.batch, width), torch.zeros(self.batch, width + 1)
        for chosen, packed in self._packed(iteration, rollouts):
            said = self.forward.of(packed.batch)
            logprobs[chosen], reference[chosen] = packed.gather(said.logprobs, width), packed.gather(said.reference, width)
            values[chosen] = packed.gather(said.values, width + 1, behind=1)
        return Experience(rollouts=rollouts, logprobs=logprobs, reference=reference, values=values)

    def _packed(self, iteration: int, rollouts: Sequence[Rollout]) -> Iterator[tuple[Tensor, PackedRollouts]]:
        """Yield the answers of each mini-batch, by their numbers and as rows."""
        order = torch.from_numpy(stream(self.seed, "mini-batches", iteration).permutation(self.batch))
        for chosen in order.split(self.mini_batch):
            yield chosen, pack_rollouts([rollouts[number] for number in chosen.tolist()], self.row_length, self.pad_id)

    def _mini_batches(self, iteration: int, experience: Experience, beta: float) -> Iterator[PpoBatch]:
        targets = targets_of(experience, beta, self.advantages)
        for number, (chosen, packed) in enumerate(self._packed(iteration, experience.rollouts)):
            yield ppo_batch(packed, experience, targets, chosen, untouched=number == 0)

    def _beta(self, iteration: int) -> float:
        if self.kl.target is None or iteration == 0:
            return self.kl.beta
        before = json.loads(self._row_path(iteration - 1).read_text(encoding="utf-8"))
        return next_beta(before["beta"], before["kl"], target=self.kl.target, horizon=self.kl.horizon, samples=self.batch)

    def _write_row(self, iteration: int, facts: dict[str, Any]) -> None:
        path = self._row_path(iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, facts)

    def _forget_old(self) -> None:
        """Remove the answers that no checkpoint can need any more."""
        oldest = min(Checkpoints(self.folder / "checkpoints").steps(), default=0) // self.steps_per_iteration
        for path in (self.folder / "ppo" / "rollouts").glob("*.npz"):
            if int(path.stem) < oldest:
                remove(path)

    def _row_path(self, iteration: int) -> Path:
        return self.folder / "ppo" / "iterations" / f"{iteration:05d}.json"

    def _rollouts_path(self, iteration: int) -> Path:
        return self.folder / "ppo" / "rollouts" / f"{iteration:05d}.npz"
