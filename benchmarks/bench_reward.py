"""Steps of reward-model training in pairs a second: prompts shared against repeated, and against TRL's `RewardTrainer`, in the same run. Prints one JSON line.

    python benchmarks/bench_reward.py [--dtypes float32,bfloat16] [--sizes 1.3M,5M] [--pairs 16] [--prompt 160] [--trl-python PATH] [--write FILE]

Each contestant is a process of its own (`reward_worker.py`) on all cores, with the dial's shapes and the same pairs: a prompt four times as long as each of
its two responses on average; lengths are `equal`, or `mixed` (uniform from half to one and a half of that). Repeated prompts are packed as shared ones are,
in rows of their own best length, so that the difference is the sharing alone; TRL pads to the longest of the batch, as it does. Heats: float32 and bfloat16
(TRL: autocast, its own default), TRL also with our allocator setting, gradient checkpointing off; the final is between the faster ones, in turn, and a ratio
is the median over rounds. Ours clips and keeps float32 masters beside bfloat16 weights. TRL needs an environment of its own: name its Python, or it is left
out.
"""

from __future__ import annotations

from pathlib import Path

from contest import contest

if __name__ == "__main__":
    contest("reward", __doc__, Path(__file__).with_name("reward_worker.py"), ("herdling-shared", "herdling-separate"), ("trl",))
