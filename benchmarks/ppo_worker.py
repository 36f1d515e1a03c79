"""One contestant of `bench_ppo.py`: iterations of PPO on request, by ours or by TRL's trainer. A process of its own, under a Python that has its library.

    python ppo_worker.py '{"who": "herdling", "run": "runs/rewards-mini", "prompts": "prompts.json", "batch": 256, "mini_batches": 4, "max_tokens": 32, ...}'

Both load the same folders (`sft` as policy and reference, `reward_helpfulness` as judge and as the critic's body), ask the same prompts, sample at temperature
1, stop at the same token, and take the same number of steps; the learning rate is next to nothing, so that answers stay as long as they are. Prints a JSON line
when ready, then reads numbers of iterations and prints the seconds of each.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

warnings.filterwarnings("ignore")
LR = 1e-9


class Clock:
    """Prints the seconds of iterations, as many as were asked for, and asks for more. Counts from the end of one iteration to the end of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.wanted, self.ready, self.started = 1, False, time.perf_counter()

    def tick(self, tokens: int) -> bool:
        """Say that an iteration is over, in which answers had this many tokens; returns False when no more are wanted."""
        self.seconds.append(time.perf_counter() - self.started)
        self.tokens.append(tokens)
        if len(self.seconds) == self.wanted:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"seconds": self.seconds, "tokens": self.tokens, "peak_rss_mib": peak, "threads": torch.get_num_threads()}), flush=True)
            line = sys.stdin.readline()
            if not line:
                return False
            self.wanted, self.seconds, self.tokens = int(line), [], []
        self.started = time.perf_counter()
        return True


def run_herdling(setting: dict[str, Any]) -> None:
    """Ours: the stage's own feed and objective in the loop, with checkpoints off."""
    from herdling.base.decode import decode
    from herdling.stages.ppo import Ppo
    from herdling.stages.registry import StageRun

    run, clock = Path(setting["run"]), Clock()

    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "data"
        (prompts / "dialogs").mkdir(parents=True)
        (prompts / "dialogs" / "train.jsonl").write_text(Path(setting["dialogs"]).read_text())
        stage = decode(
            Ppo,
            {
                "model": "sft",
                "rewards": {"helpfulness": "reward"},
                "data": "data",
                "max_tokens": setting["max_tokens"],
                "batch": setting["batch"],
                "mini_batch": setting["batch"] // setting["mini_batches"],
                "iterations": 10_000,
                "evaluations": 0,
                "optimizer": {"lr": LR},
                "loop": {"device": "cpu", "dtype": setting["dtype"], "checkpoint": {"every_seconds": 1e9}},
            },
            "stages.ppo",
        )
        inputs = {"sft": run / "sft", "reward": run / "reward_helpfulness", "data": prompts}
        work = Path(folder) / "ppo"
        work.mkdir()
        counted = {"rows": 0}

        def over() -> bool:
            """Called between two steps: an iteration is over when its last step is."""
            counted["rows"] += 1
            if counted["rows"] % setting["mini_batches"]:
                return False
            rows = sorted((work / "ppo" / "iterations").glob("*.json"))
            row = json.loads(rows[-1].read_text())
            return not clock.tick(round(row["length"] * setting["batch"]))

        stage.run(StageRun(name="ppo", folder=work, seed=1, inputs=inputs, stop_requested=over))


def run_trl(setting: dict[str, Any]) -> None:
    """TRL's trainer, with a callback at the end of each of its iterations."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    run, clock = Path(setting["run"]), Clock()

    class Rounds(TrainerCallback):
        """Measures, and stops the process when no more is wanted."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            frame = sys._getframe()
            while frame is not None and not (frame.f_code.co_name == "train" and "sequence_lengths" in frame.f_locals):
                frame = frame.f_back
            assert frame is not None
            if not clock.tick(int((frame.f_locals["sequence_lengths"] + 1).sum())):
                sys.exit(0)

    tokenizer = AutoTokenizer.from_pretrained(run / "sft", padding_side="left")
    tokenizer.eos_token = setting["end_of_turn"]
    policy, reference = (AutoModelForCausalLM.from_pretrained(run / "sft", dtype=torch.float32) for _ in range(2))
    judge, critic = (AutoModelForSequenceClassification.from_pretrained(run / "reward_helpfulness", dtype=torch.float32) for _ in range(2))
    data = Dataset.from_list([{"input_ids": ids} for ids in json.loads(Path(setting["prompts"]).read_text())])
    with tempfile.TemporaryDirectory() as folder:
        arguments = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=setting["batch"],
            gradient_accumulation_steps=1,
            num_mini_batches=setting["mini_batches"],
            num_ppo_epochs=1,
            total_episodes=setting["batch"] * 10_000,
            local_rollout_forward_batch_size=setting["batch"],
            response_length=setting["max_tokens"],
            stop_token="eos",
            temperature=1.0,
            learning_rate=LR,
            num_sample_generations=0,
            report_to=[],
            use_cpu=True,
            bf16=setting["dtype"] == "bfloat16",
            gradient_checkpointing=False,
            save_strategy="no",
            disable_tqdm=True,
        )
        PPOTrainer(
            args=arguments,
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            reward_model=judge,
            value_model=critic,
            train_dataset=data,
            eval_dataset=data,
            callbacks=[Rounds()],
        ).train()


def main() -> None:
    """Set the process up and run the contestant."""
    setting = json.loads(sys.argv[1])
    if setting["allocator"]:  # glibc: keep freed blocks (model/precision.py gives the reason)
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**31 - 1)
        libc.mallopt(-1, 2**31 - 1)
    torch.set_num_threads(setting["threads"])
    torch.manual_seed(0)
    (run_trl if setting["who"] == "trl" else run_herdling)(setting)


if __name__ == "__main__":
    main()
