"""Steps of DPO in pairs a second: prompts shared against repeated, and against TRL's `DPOTrainer`, in the same run. Prints one JSON line.

    python benchmarks/bench_dpo.py [--dtypes float32,bfloat16] [--sizes 1.3M,5M] [--pairs 16] [--prompt 160] [--trl-python PATH] [--write FILE]

As `bench_reward.py`, with `dpo_worker.py`: the same pairs, beta 0.1, 0.2 times TRL's `sft` loss, every token of a response in the loss, so that all compute the
same number. `trl` asks its reference in every step, its default; `trl-precomputed` asks it once before (`precompute_ref_log_probs`), as ours does. For the
others than `trl` a second figure adds one pass of the reference over the pairs: what one epoch costs.
"""

from __future__ import annotations

from pathlib import Path

from contest import contest

if __name__ == "__main__":
    contest("dpo", __doc__, Path(__file__).with_name("dpo_worker.py"), ("herdling-shared", "herdling-separate"), ("trl", "trl-precomputed"))
