"""The guard: skips a step whose loss or gradient is not finite, or leaps far out of what came before, and stops training that only leaps.

A bad batch or a flipped bit must not ruin weights that took days. The judgement is made of tensors on the device, and AdamW's kernel takes it as a flag, so no
step waits for the host. The papers report few spikes and no interventions (Llama 3, section 3.4.1); the rule of k standard deviations is OLMo's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from herdling.base.errors import TrainingError
from herdling.train.config import GuardConfig


class Guard:
    """Judges steps by loss and gradient norm. Its memory is tensors, so that it is saved and resumed like weights."""

    def __init__(self, config: GuardConfig, device: torch.device) -> None:
        self.config = config
        # [loss, norm] of the last `window` finite steps; NaN = not seen yet.
        self.history = torch.full((2, config.window), torch.nan, device=device)
        self.num_seen = torch.zeros((), dtype=torch.int64, device=device)
        self.num_in_a_row = torch.zeros((), device=device)

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Return 1.0 where this step must be skipped, else 0.0 (float32 scalar), and remember the step."""
        now = torch.stack([loss.detach().float(), norm.float()])  # [2]
        finite = now.isfinite().all()
        skip = ~finite
        if self.config.sigmas > 0:
            seen = self.history.isfinite()
            count = seen.sum(dim=1).clamp(min=2)
            known = torch.where(seen, self.history, 0.0)
            mean = known.sum(dim=1) / count
            spread = (torch.where(seen, self.history - mean[:, None], 0.0).square().sum(dim=1) / (count - 1)).sqrt()
            leaps = (now > mean + self.config.sigmas * spread).any() & (self.num_seen >= self.config.window // 2)
            skip = skip | leaps
            # A leap is remembered too: a lasting change of level becomes normal, instead of being skipped for ever.
            slot = (self.num_seen % self.config.window).reshape(1)
            kept = self.history.index_select(1, slot)
            self.history.index_copy_(1, slot, torch.where(finite, now[:, None], kept))
            self.num_seen += finite
        self.num_in_a_row = torch.where(skip, self.num_in_a_row + 1, 0.0)
        return skip.float()

    def check(self, num_in_a_row: float, step: int) -> None:
        """Raise `TrainingError` when too many steps in a row were skipped."""
        if num_in_a_row >= self.config.patience:
            raise TrainingError(
                f"step {step:,}: the last {num_in_a_row:.0f} steps were skipped: loss or gradient were not finite, or leapt more than {self.config.sigmas:g}"
                " standard deviations. The weights on disk are those before. Lower optimizer.lr, lengthen schedule.warmup, or look at the data of these steps"
            )

    def state(self) -> dict[str, Tensor]:
        """Return the live tensors that a checkpoint holds."""
        return {"guard.history": self.history, "guard.num_seen": self.num_seen, "guard.num_in_a_row": self.num_in_a_row}
