"""One contestant of `bench_reward.py`: builds a reward model, then takes training steps on request. A process of its own, under a Python that has its library.

    python reward_worker.py '{"who": "herdling-shared", "shape": {...}, "pairs": [[[1, 5], [7, 2], [8, 2]], ...], "dtype": "bfloat16", "threads": 2, ...}'

`herdling-shared` is our step as the loop takes it (rows made by the feed, prompts once); `herdling-separate` the same with each response behind a prompt of
its own; `trl` is `RewardTrainer.train()` with a callback that measures. Prints a JSON line when ready, then reads numbers of steps and prints the seconds of
each.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

warnings.filterwarnings("ignore")


def herdling_step(setting: dict[str, Any]) -> Callable[[], object]:
    """Ours: rows made anew for each step, one forward and backward, float32 masters, clipping and all."""
    from herdling.model.config import LlamaConfig
    from herdling.model.reward import RewardModel
    from herdling.model.transformer import Llama
    from herdling.train.config import OptimizerConfig
    from herdling.train.forward import scorer
    from herdling.train.optim import Optimizer

    llama = Llama(LlamaConfig(**setting["shape"]))
    llama.init_weights(0)
    model = RewardModel.from_llama(llama, seed=0)
    optimizer, skip = Optimizer(model, OptimizerConfig(), dtype=getattr(torch, setting["dtype"])), torch.zeros(())
    ids = [[np.array(part, np.int32) for part in pair] for pair in setting["pairs"]]
    losses = {"herdling-shared": shared_losses, "herdling-separate": separate_losses}[setting["who"]](ids, scorer(model), llama.config.hidden_size)

    def step() -> float:
        loss = next(losses)
        (loss / len(ids)).backward()
        optimizer.accumulate()
        optimizer.step(1e-5, optimizer.gradient_norm(), skip)
        return loss.item() / len(ids)

    return step


def shared_losses(ids: list[list[Any]], score: Any, hidden_size: int) -> Iterator[Tensor]:
    """Yield the summed loss of the pairs, as the stage reward takes it: rows of the feed, each prompt once."""
    from herdling.data.comparison_rows import ComparisonFeed, RankedResponses
    from herdling.data.shared_rows import SharedPrompt
    from herdling.train.preference_losses import PairwiseReward

    shared = [SharedPrompt(prompt=prompt, responses=(chosen, rejected)) for prompt, chosen, rejected in ids]
    ranked = [RankedResponses(shared=one, ranks=(1, 2), margin=1.0, safe=(-1, -1)) for one in shared]
    for batch in ComparisonFeed(ranked, batch_pairs=len(ranked), epochs=1 << 20, seed=0, hidden_size=hidden_size).batches(0):
        yield PairwiseReward().loss(score(batch), batch)[0]


def separate_losses(ids: list[list[Any]], score: Any, hidden_size: int) -> Iterator[Tensor]:
    """Yield the same loss with each response behind a prompt of its own, packed as shared prompts are."""
    from herdling.data.shared_rows import SharedPrompt, lay_out, row_length_for

    documents = [SharedPrompt(prompt=prompt, responses=(response,)) for prompt, *responses in ids for response in responses]
    length = row_length_for([document.length for document in documents], len(documents), hidden_size)
    while True:
        batch, ends = lay_out(documents, length, 0)
        values = score(batch).values[torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1])]
        yield -torch.nn.functional.logsigmoid(values[::2] - values[1::2] - 1.0).sum()


def run_herdling(setting: dict[str, Any]) -> None:
    """Take steps as they are asked for."""
    step = herdling_step(setting)
    start = time.perf_counter()
    loss = step()
    say(first_step_seconds=time.perf_counter() - start, loss=loss)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        say(seconds=seconds)


def run_trl(setting: dict[str, Any]) -> None:
    """Let TRL's trainer run, and hold it between rounds."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast, TrainerCallback
    from trl import RewardConfig, RewardTrainer

    class Rounds(TrainerCallback):
        """Measures a step from its beginning to the next one's, so that collating and logging count as they do in a run."""

        def __init__(self) -> None:
            self.wanted, self.seconds, self.started = 0, [], 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now = time.perf_counter()
            self.seconds.append(now - self.started)
            if state.global_step == 1:
                say(first_step_seconds=self.seconds[0], loss=None)
            elif len(self.seconds) == self.wanted:
                say(seconds=self.seconds)
            if len(self.seconds) >= self.wanted:
                line = sys.stdin.readline()
                if not line:
                    control.should_training_stop = True
                    return
                self.wanted, self.seconds = int(line), []
            self.started = time.perf_counter()

    shape = {name: value for name, value in setting["shape"].items() if not name.startswith("rope")}
    config = LlamaConfig(**shape, num_labels=1, pad_token_id=0, use_cache=False)
    vocabulary = {f"t{index}": index for index in range(config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "t0")), pad_token="t0", eos_token="t2")
    rows = [{"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected, "margin": 1.0} for prompt, chosen, rejected in setting["pairs"]]
    with tempfile.TemporaryDirectory() as folder:
        arguments = RewardConfig(
            output_dir=folder,
            report_to=[],
            use_cpu=True,
            bf16=setting["dtype"] == "bfloat16",
            gradient_checkpointing=False,
            per_device_train_batch_size=len(rows),
            max_steps=1 << 20,
            max_length=None,
            logging_steps=1 << 20,
            save_strategy="no",
            disable_tqdm=True,
            learning_rate=1e-5,
        )
        model = LlamaForSequenceClassification(config)
        RewardTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Rounds()]).train()


def say(**facts: Any) -> None:
    """Print a line for the benchmark."""
    print(json.dumps({**facts, "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "threads": torch.get_num_threads()}), flush=True)


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
