"""How many tokens a second the loader delivers on one core, for pre-training and for fine-tuning rows. Prints one JSON line.

    python benchmarks/bench_loader.py [--length 512] [--rows 64] [--seconds 3]

Documents have a log-normal length around 400 tokens, dialogs around 60, ids are random: only the work of the loader is measured, not that of a tokenizer. The
first pass over the page cache is left out by one warm-up step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from herdling.data.dialog_rows import DialogRows, EncodedDialogs
from herdling.data.loader import Loader, RowSource
from herdling.data.mixture import Mixture, plan_mixture
from herdling.data.packing import TokenRows
from herdling.data.token_shards import TokenShards

NUM_TOKENS = 20_000_000
WEIGHTS = {"web": 0.67, "code": 0.2, "books": 0.13}


def make_shards(folder: Path, source: str, seed: int, median: int) -> TokenShards:
    """Write a shard of random ids without a tokenizer."""
    generator = np.random.Generator(np.random.PCG64(seed))
    lengths = np.maximum(3, generator.lognormal(np.log(median), 1.0, NUM_TOKENS // median)).astype(np.int64)
    ends = np.cumsum(lengths)
    folder = folder / f"{source}.train"
    folder.mkdir()
    generator.integers(0, 32_000, int(ends[-1]), dtype=np.uint16).tofile(folder / "tokens.bin")
    np.save(folder / "ends.npy", ends)
    np.save(folder / "text_bytes.npy", lengths * 4)
    record = {"format": 1, "source": source, "dtype": "<u2", "num_tokens": int(ends[-1]), "num_documents": len(ends), "num_bytes": int(ends[-1]) * 4}
    (folder / "shard.json").write_text(json.dumps({**record, "tokenizer": "random", "fingerprint": hashlib.sha256(source.encode()).hexdigest()}))
    return TokenShards(folder)


def make_dialogs(count: int = 50_000) -> EncodedDialogs:
    """Return dialogs of random ids, the second half of each an answer."""
    generator = np.random.Generator(np.random.PCG64(0))
    lengths = np.clip(generator.lognormal(np.log(60), 0.7, count), 4, 256).astype(np.int64)
    ends = np.cumsum(lengths)
    inside = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    ids = generator.integers(0, 32_000, int(ends[-1]), dtype=np.int32)
    return EncodedDialogs(ids=ids, trained=inside * 2 > np.repeat(lengths, lengths), ends=ends)


def tokens_per_second(source: RowSource, rows: int, seconds: float, prefetch: int) -> float:
    """Take steps for this long; return tokens a second."""
    with Loader(source, rows, prefetch=prefetch) as loader:
        next(loader)
        started, count = time.perf_counter(), 0
        for batch in loader:
            count += batch.input_ids.numel()
            if time.perf_counter() - started > seconds:
                break
        return count / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for all threads, so that the number is per core
    with tempfile.TemporaryDirectory() as folder:
        shards = {name: make_shards(Path(folder), name, seed, 400) for seed, name in enumerate(WEIGHTS)}
        plans = plan_mixture({name: shard.num_tokens for name, shard in shards.items()}, WEIGHTS, total_tokens=10**9)
        source = TokenRows(shards, Mixture(plans, num_rows=10**9 // options.length, seed=1), sequence_length=options.length, seed=1)
        started = time.perf_counter()
        fine_tuning = DialogRows(make_dialogs(), sequence_length=options.length, epochs=1000, seed=1)
        packing_seconds = time.perf_counter() - started
        result = {
            "benchmark": "loader",
            "pretrain_tokens_per_second": round(tokens_per_second(source, options.rows, options.seconds, 2)),
            "sft_tokens_per_second": round(tokens_per_second(fine_tuning, options.rows, options.seconds, 2)),
            "sft_row_fill": round(fine_tuning.fill, 4),
            "pack_50k_dialogs_seconds": round(packing_seconds, 2),
            "sequence_length": options.length,
            "rows_per_step": options.rows,
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
            "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
