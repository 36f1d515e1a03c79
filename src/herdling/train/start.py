"""Start the loop on a Llama: optimizer, forward and speeds put together as the settings say, the same for every stage that trains one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from herdling.base.artifact import DEVICE_RECORD, write_json_atomic
from herdling.base.progress import Progress
from herdling.data.first_rows import keep_first_rows
from herdling.model.actor_critic import ActorCritic
from herdling.model.precision import Device, prepare_device
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.train.config import LoopConfig, OptimizerConfig
from herdling.train.forward import scorer
from herdling.train.loop import Feed, Loop
from herdling.train.losses import Objective
from herdling.train.optim import Optimizer
from herdling.train.outlook import foresee
from herdling.train.recorder import Validate
from herdling.train.schedule import Schedule


def settle_device(loop: LoopConfig, folder: Path) -> Device:
    """Prepare the device, and hold to what was chosen when the run in `folder` began.

    "auto" chooses by measured speed, and two near-equal speeds may swap places: a resumed run would then end with other bits.
    """
    path = folder / DEVICE_RECORD
    if not path.is_file():
        device = prepare_device(loop.device, loop.dtype)
        chosen = {"device": device.device.type, "dtype": str(device.dtype).removeprefix("torch."), "matmul_precision": device.matmul_precision}
        write_json_atomic(path, chosen)
        return device
    held = json.loads(path.read_text(encoding="utf-8"))
    device = prepare_device(held["device"], held["dtype"])
    torch.set_float32_matmul_precision(held["matmul_precision"])
    return replace(device, matmul_precision=held["matmul_precision"])


def train_llama(
    model: Llama | RewardModel | ActorCritic,
    objective: Objective,
    feed: Feed,
    *,
    schedule: Schedule,
    optimizer: OptimizerConfig,
    lr: float,
    loop: LoopConfig,
    device: Device,
    folder: Path,
    progress: Progress,
    stop_requested: Callable[[], bool],
    validate: Validate | None = None,
    lr_shares: Mapping[str, float] | None = None,
    may_end_early: bool = False,
) -> dict[str, Any]:
    """Train a model in place and return small numbers about it. Raises what `Loop.run` raises."""
    model.to(device.device)
    flops = _flops(model, schedule.phases[-1].sequence_length)
    made = Optimizer(model, optimizer, dtype=device.dtype, lr_shares=lr_shares)
    outlook = None if may_end_early else foresee(model, objective, feed, schedule=schedule, loop=loop, device=device, progress=progress)
    if outlook:
        progress.note(outlook.say())
    keep_first_rows(folder, feed)  # of a feed that samples from the model: in the type that it is trained in, as the optimizer has made it
    summary = Loop(
        score=scorer(model, compiled=loop.compile),
        objective=objective,
        feed=feed,
        schedule=schedule,
        optimizer=made,
        lr=lr,
        folder=folder,
        device=device.device,
        micro_batch_tokens=loop.micro_batch_tokens,
        guard=loop.guard,
        checkpoint=loop.checkpoint,
        validate=validate,
        validate_every=-(-schedule.num_steps // loop.validations) if loop.validations else 0,
        flops_per_token=flops,
        may_end_early=may_end_early,
        progress=progress,
        stop_requested=stop_requested,
    ).run()
    if outlook:
        outlook.compare(summary, progress)
    return summary


def _flops(model: Llama | RewardModel | ActorCritic, length: int) -> float:
    """Return the FLOPs of a token in rows of this length."""
    if isinstance(model, ActorCritic):
        return _flops(model.policy, length) + _flops(model.critic, length)
    flops = model.config.flops_per_token(length)
    if isinstance(model, RewardModel):
        flops -= 6 * model.config.vocab_size * model.config.hidden_size  # no output matrix
    return flops
