"""The settings of training, each class read by the file that it is named after. Imports no torch, so that recipes are read at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from herdling.base.decode import Volatile, settings


@settings
class OptimizerConfig:
    """AdamW (Llama 1 section 2.3, Llama 2 section 2.2)."""

    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate. Unset: the value that the papers give for a model of theirs, or the dial's for a small one."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the running mean and the running square of the gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the root of the running square. Llama 2 prints 1e-5 (section 2.2), Llama 1 and 3 nothing."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Share of each matrix taken away per step, times the learning rate. Gains of the norms do not decay; see docs/decisions/0021."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this global norm when theirs is larger."""


@settings
class ScheduleConfig:
    """The course of the learning rate over the tokens of a run."""

    warmup: str = "2%"
    """Linear warm-up from 0, in tokens (`8B`) or as a share of the run (`2%`). Llama 1 and 2: 2,000 steps of 4M tokens, 0.4 to 0.8 % of their runs;
    Llama 3 405B: 8,000 steps. Small runs have few steps, hence the larger share."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape after the warm-up. Cosine in all three papers; linear is Llama 3's annealing (section 3.4.3)."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at the end, as a fraction of the peak: 0.1 in Llama 1 and 2 (section 2.2), 0.01 for Llama 3 405B, 0 for annealing."""


@settings
class AdvantageConfig:
    """How PPO turns scores into advantages. Llama 2 (section 3.2.3) prints none of these; docs/decisions/0062 says why these."""

    formulas: Literal["textbook", "trl"] = "textbook"
    """`textbook`: the score stands at the last token, whitened over the batch as Llama 2 says, variances by the count. `trl`: as TRL 1.12, for comparison: the
    raw score stands one step behind the end of the turn, where the critic learns one more value, and variances are unbiased."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """What a token pays for leaving the reference (log p - log p_ref = d): k1 = d, k2 = d^2 / 2, k3 = e^-d - 1 + d."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 1.0
    """What a reward one token later is worth: an answer is judged as a whole, so all."""
    lam: Annotated[float, Field(ge=0, le=1)] = 0.95
    """How far advantages trust rewards (1) rather than the critic (0)."""
    no_end_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Taken from the score of an answer that did not end within `max_tokens`, in standard deviations of the batch's rewards (`trl`: in logits)."""


@settings
class GuardConfig:
    """When to skip a step, and when to give up."""

    sigmas: Annotated[float, Field(ge=0)] = 6.0
    """Skip a step whose loss or gradient norm lies this many standard deviations above the mean of the steps before it. 0: only what is not finite."""
    window: Annotated[int, Field(ge=8)] = 128
    """How many steps make that mean; nothing is judged before half of them were seen."""
    patience: Annotated[int, Field(ge=1)] = 20
    """Stop with an error after this many skipped steps in a row."""


@settings
class MovingReferenceConfig:
    """A reference for DPO that follows the policy (Llama 3, section 7.5.5, which prints neither number)."""

    every_steps: Annotated[int, Field(ge=1)]
    """Steps between two moves of the reference."""
    decay: Annotated[float, Field(ge=0, lt=1)]
    """What stays of the reference at a move; the rest is the policy's. 0: the policy itself takes its place."""


@settings
class CheckpointConfig:
    """When training state is saved. None of it can change the result."""

    every_seconds: Annotated[float, Volatile(), Field(ge=0)] = 60.0
    """Save when this much time went by since the last save."""
    every_steps: Annotated[int | None, Volatile(), Field(ge=1)] = None
    """Also save after each so many steps."""
    keep: Annotated[int, Volatile(), Field(ge=1)] = 2
    """How many checkpoints stay on disk: the newest, and ones to fall back on."""


@settings
class LoopConfig:
    """How the loop runs: on what, in which pieces, and how carefully."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute. Auto: the first there is of cuda, mps, cpu."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of weights and activations; beside bfloat16 the optimizer keeps float32 masters and float32 gradients (Llama 3, section 3.3.4). Auto: what is faster."""
    compile: bool = False
    """Compile the blocks: costs 20 to 80 s at the start (less when it was done before), then a step takes 5 to 25 % less."""
    micro_batch_tokens: Annotated[int, Field(ge=1)] = 4096
    """Tokens in one forward. A step's rows run in pieces of this size (at least a row); the result is the same up to rounding, the memory is not."""
    validations: Annotated[int, Volatile(), Field(ge=0)] = 6
    """How often held-out text is measured, evenly over the run, the last time at its end. 0: only at the end."""
    guard: GuardConfig = GuardConfig()
    """When to skip a step."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When to save training state."""
