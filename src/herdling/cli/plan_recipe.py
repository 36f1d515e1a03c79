"""The lines of a recipe that a plan comes out as: rows, batch and micro-batch of a stage; how to split it stands beside them as a comment.

herdling's trainer has no settings for a split so far: what it cannot do is said, not written as if it could.
"""

from __future__ import annotations

from herdling.model.presets import PRESETS
from herdling.plan.split import Job, Split

ORDER = ("tp", "cp", "pp", "dp")


def recipe_lines(job: Job, split: Split, name: str, purpose: str, tokens: int | None) -> str:
    """Return the stage's lines for a plan of `train`, `sft`, `dpo` or `ppo`."""
    micro_batch = f"loop = {{ micro_batch_tokens = {split.micro_batch * job.seq_len} }}"
    return "\n".join([*STAGES[purpose](job, name, tokens), micro_batch, *comments(split)])


def _pretrain(job: Job, name: str, tokens: int | None) -> list[str]:
    size = f'size = "{name}"' if name in PRESETS else f"# model = {{ ... }}, the shape of {name}"
    run = [f'num_tokens = "{tokens}"'] if tokens else []
    return ["[stages.pretrain]", size, f"sequence_length = {job.seq_len}", f'batch = "{job.tokens}"', *run]


def _sft(job: Job, name: str, _: int | None) -> list[str]:
    return ["[stages.sft]", f"model = ...  # {name}", f"sequence_length = {job.seq_len}", f"batch_rows = {job.global_batch}"]


def _dpo(job: Job, name: str, _: int | None) -> list[str]:
    return ["[stages.dpo]", f"model = ...  # {name}", f"batch_pairs = {max(1, job.global_batch // 2)}"]


def _ppo(job: Job, name: str, _: int | None) -> list[str]:
    return ["[stages.ppo]", f"model = ...  # {name}", f"max_tokens = {max(1, job.seq_len // 2)}", f"batch = {max(2, job.global_batch)}"]


STAGES = {"train": _pretrain, "sft": _sft, "dpo": _dpo, "ppo": _ppo}


def comments(split: Split) -> list[str]:
    """Return what a trainer that splits would have to be told."""
    if split.num_gpus == 1:
        return []
    groups = ", ".join(f"{name} = {getattr(split, name)}" for name in ORDER)
    rest = f"chunks of layers {split.virtual_stages}, recompute {split.recompute}, sharding {split.sharding}"
    return [f"# {groups}, {rest}:", "# herdling's trainer takes one GPU so far; give this to one that splits, such as torchtitan or Megatron"]
