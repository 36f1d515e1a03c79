"""Encoding speed of herdling's tokenizers against bare tiktoken and sentencepiece, in MB of text a second. Prints one JSON line.

    python benchmarks/bench_tokenizers.py [--rounds 7] [--megabytes 6] [--write benchmarks/results/tokenizers.json]

Text: this Python's standard library, as whole files and as paragraphs. Tokenizers: Meta's where the kit is (HERDLING_KIT, else ../shared/kit), else ones
trained here. Ids are compared first. A round goes through the text in slices, and each slice is encoded in every way in turn, so that all ways meet the same
disturbances. A ratio is the median over rounds of our best way by the peer's best way, best by the median. `wall` counts time that passed, `processor` the
time of one-threaded ways on the processors, which other programs disturb less. `cold`: the words that a Llama 2 tokenizer remembers are forgotten before each
round; `warm`: they are not, and the ratio does not count it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece
import tiktoken
from machine import machine_facts
from result import give_result

from herdling.tokenizer import load_tokenizer
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece

KIT = Path(os.environ.get("HERDLING_KIT") or Path(__file__).parents[2] / "shared/kit") / "tokenizers"
Ways = dict[str, Callable[[list[str]], Any]]
SLICES = 12


def read_texts(megabytes: float) -> list[str]:
    """Return standard-library files in the order of their names, up to this size."""
    texts: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        texts.append(text)
        size += len(text.encode())
        if size > megabytes * 1e6:
            break
    return texts


def tiktoken_ways(ours: TiktokenTokenizer, cores: int) -> Ways:
    """Return our ways to encode texts, and bare tiktoken's."""
    ranks = {ours.token_bytes(index): index for index in range(ours.vocab_size - len(ours.special_ids))}
    bare = tiktoken.Encoding("bare", pat_str=ours.pattern, mergeable_ranks=ranks, special_tokens=dict(ours.special_ids))
    return {
        "ours: encode": lambda texts: [ours.encode(text) for text in texts],
        "ours: encode_batch": lambda texts: ours.encode_batch(texts, threads=1),
        f"ours: encode_batch, {cores} threads": lambda texts: ours.encode_batch(texts, threads=cores),
        "peer: encode_ordinary": lambda texts: [bare.encode_ordinary(text) for text in texts],
        "peer: encode_to_numpy": lambda texts: [bare.encode_to_numpy(text, disallowed_special=()) for text in texts],
        f"peer: encode_ordinary_batch, {cores} threads": lambda texts: bare.encode_ordinary_batch(texts, num_threads=cores),
    }


def sentencepiece_ways(warm: SentencePieceTokenizer, cold: Sequence[SentencePieceTokenizer], cores: int) -> Ways:
    """Return our ways to encode texts, and the bare library's. Each of our cold ways has a tokenizer of its own, so that none warms another."""
    bare = sentencepiece.SentencePieceProcessor(model_proto=warm.model)
    one, two, three = cold
    return {
        "ours: encode, cold": lambda texts: [one.encode(text) for text in texts],
        "ours: encode_batch, cold": lambda texts: two.encode_batch(texts, threads=1),
        f"ours: encode_batch, {cores} threads, cold": lambda texts: three.encode_batch(texts, threads=cores),
        "ours: encode_batch, warm": lambda texts: warm.encode_batch(texts, threads=1),
        "peer: encode": lambda texts: [bare.encode(text) for text in texts],
        "peer: encode_as_numpy": lambda texts: bare.encode_as_numpy(texts, num_threads=1),
        f"peer: encode, {cores} threads": lambda texts: bare.encode(texts, num_threads=cores),
        f"peer: encode_as_numpy, {cores} threads": lambda texts: bare.encode_as_numpy(texts, num_threads=cores),
    }


def forget(tokenizers: Sequence[SentencePieceTokenizer]) -> None:
    """Make tokenizers cold."""
    for tokenizer in tokenizers:
        tokenizer.forget()


def check(ways: Ways, texts: list[str]) -> Ways:
    """Stop unless all ways give the same ids."""
    first, *others = ([list(ids) for ids in way(texts)] for way in ways.values())
    if any(other != first for other in others):
        sys.exit("ids differ from the peer's")
    return ways


def measure(ways: Ways, texts: list[str], rounds: int, prepare: Callable[[], None]) -> dict[str, Any]:
    """Time all ways on each slice in turn; return medians over rounds and the ratios of the best of each side."""
    size = max(1, len(texts) // SLICES)
    slices = [texts[start : start + size] for start in range(0, len(texts), size)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    seconds: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in ways} for clock in ("wall", "processor")}
    for turn in range(rounds + 1):
        prepare()
        spent = {clock: dict.fromkeys(ways, 0.0) for clock in seconds}
        for index, part in enumerate(slices):
            for name, way in sorted(ways.items(), reverse=(turn + index) % 2 == 1):
                wall, processor = time.perf_counter(), time.process_time()
                way(part)
                spent["wall"][name] += time.perf_counter() - wall
                spent["processor"][name] += time.process_time() - processor
        for clock, names in spent.items() if turn else ():  # the first round fills the caches of both sides
            for name, value in names.items():
                seconds[clock][name].append(value)
    return {clock: compare(megabytes, taken, only_one_thread=clock == "processor") for clock, taken in seconds.items()}


def compare(megabytes: float, taken: dict[str, list[float]], only_one_thread: bool) -> dict[str, Any]:
    """Return speeds and the ratio of our best way to the peer's best."""
    names = [name for name in taken if not (only_one_thread and "threads" in name)]
    medians = {name: round(megabytes / statistics.median(taken[name]), 2) for name in names}
    ours, peer = (max((name for name in names if name.startswith(side) and "warm" not in name), key=medians.__getitem__) for side in ("ours", "peer"))
    ratios = [round(theirs / mine, 3) for mine, theirs in zip(taken[ours], taken[peer], strict=True)]
    return {"megabytes_per_second": medians, "best": [ours, peer], "ratio": statistics.median(ratios), "ratio_of_each_round": ratios}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=float, default=6.0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    files = read_texts(options.megabytes)
    results = []
    for family in ("llama2", "llama3"):
        path = KIT / f"{family}.tokenizer.model"
        start = time.perf_counter()
        tokenizer = load_tokenizer(path) if path.is_file() else (train_sentencepiece if family == "llama2" else train_byte_level_bpe)(files, 4096)
        seconds = time.perf_counter() - start
        for shape, texts in (("files", files), ("paragraphs", [part for text in files for part in text.split("\n\n") if part])):
            if isinstance(tokenizer, TiktokenTokenizer):
                measured = measure(check(tiktoken_ways(tokenizer, cores), texts), texts, options.rounds, lambda: None)
            else:
                cold = [SentencePieceTokenizer(tokenizer.model) for _ in range(3)]
                ways = check(sentencepiece_ways(tokenizer, cold, cores), texts)
                measured = measure(ways, texts, options.rounds, partial(forget, cold))
            facts = {"family": family, "vocab_size": tokenizer.vocab_size, "texts": shape, "documents": len(texts)}
            results.append({**facts, "megabytes": round(sum(len(text.encode()) for text in texts) / 1e6, 2), "load_seconds": round(seconds, 3), **measured})
    line = {"benchmark": "tokenizers", "command": "python benchmarks/bench_tokenizers.py", "rounds": options.rounds, "cores": cores, "results": results,
            "machine": machine_facts("tiktoken", "sentencepiece", "tokenizers", "herdling")}  # fmt: skip
    give_result(line, options.write)


if __name__ == "__main__":
    main()
