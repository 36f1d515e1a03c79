"""What the workers of a contest (`contest.py`) have in common: how they are set up, how they take steps on request, how they hold TRL's trainer between rounds.

Runs under any Python that has torch; our library and TRL are imported by whoever needs them.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

warnings.filterwarnings("ignore")


def say(**facts: Any) -> None:
    """Print a line for the benchmark."""
    print(json.dumps({**facts, "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "threads": torch.get_num_threads()}), flush=True)


def set_up() -> dict[str, Any]:
    """Read the setting from the command line, set allocator, threads and seed as it says, and return it."""
    setting: dict[str, Any] = json.loads(sys.argv[1])
    if setting["allocator"]:  # glibc: keep freed blocks (model/precision.py gives the reason)
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**31 - 1)
        libc.mallopt(-1, 2**31 - 1)
    torch.set_num_threads(setting["threads"])
    torch.manual_seed(0)
    return setting


def take_steps(step: Callable[[], float], **facts: Any) -> None:
    """Take steps as they are asked for; `facts` are told when the first is done."""
    start = time.perf_counter()
    loss = step()
    say(first_step_seconds=time.perf_counter() - start, loss=loss, **facts)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        say(seconds=seconds)


def rounds(**facts: Any) -> Any:
    """Return a callback that measures a step of transformers' trainer from its beginning to the next one's, so that collating and logging count as they do in a
    run, and holds the trainer between rounds.
    """
    from transformers import TrainerCallback

    class Rounds(TrainerCallback):
        """Takes as many steps as a line of standard input says, then tells their seconds."""

        def __init__(self) -> None:
            self.wanted, self.seconds, self.started = 0, [], 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now = time.perf_counter()
            self.seconds.append(now - self.started)
            if state.global_step == 1:
                say(first_step_seconds=self.seconds[0], loss=None, **facts)
            elif len(self.seconds) == self.wanted:
                say(seconds=self.seconds)
            if len(self.seconds) >= self.wanted:
                line = sys.stdin.readline()
                if not line:
                    control.should_training_stop = True
                    return
                self.wanted, self.seconds = int(line), []
            self.started = time.perf_counter()

    return Rounds()


def trainer_settings(setting: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return what every trainer of TRL is told: our batch, no checkpointing of activations, nothing written."""
    return {
        "output_dir": folder,
        "report_to": [],
        "use_cpu": True,
        "bf16": setting["dtype"] == "bfloat16",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": len(setting["pairs"]),
        "max_steps": 1 << 20,
        "max_length": None,
        "logging_steps": 1 << 20,
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-5,
    }


def word(token: int) -> str:
    """Return the word of an id. The special ones are no part of another word: a tokenizer finds them anywhere in a text."""
    return {0: "<pad>", 2: "</s>"}.get(token, f"t{token}")


def peer_tokenizer(vocab_size: int) -> Any:
    """Return a tokenizer of words, one for each id, with 0 for padding and 2 for the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word(index): index for index in range(vocab_size)}, word(0)))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=word(0), eos_token=word(2))
