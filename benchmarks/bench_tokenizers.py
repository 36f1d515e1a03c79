"""Encoding speed of herdling's tokenizers against bare tiktoken and sentencepiece, in MB of text a second. Prints one JSON line.

    python benchmarks/bench_tokenizers.py [--rounds 7] [--megabytes 6] [--write benchmarks/results/tokenizers.json]

Text: this Python's standard library, as whole files and as paragraphs. Tokenizers: Meta's where the kit is (HERDLING_KIT, else ../shared/kit), else ones
trained here. In each round every way of encoding runs once, one after the other; a ratio is the median over rounds of our best way by the peer's best way
of the same round, best by the median over rounds. Ids are compared first. `cold` empties the words that a Llama 2 tokenizer remembers before each run, `warm` does not; the ratio counts cold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import tiktoken
from machine import machine_facts

from herdling.tokenizer import load_tokenizer
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece

KIT = Path(os.environ.get("HERDLING_KIT") or Path(__file__).parents[2] / "shared/kit") / "tokenizers"
Ways = dict[str, Callable[[], Any]]


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


def tiktoken_ways(ours: TiktokenTokenizer, texts: list[str], cores: int) -> tuple[Ways, Ways]:
    """Return our ways to encode texts, and bare tiktoken's."""
    ranks = {ours.token_bytes(index): index for index in range(ours.vocab_size - len(ours.special_ids))}
    bare = tiktoken.Encoding("bare", pat_str=ours.pattern, mergeable_ranks=ranks, special_tokens=dict(ours.special_ids))
    mine: Ways = {
        "encode": lambda: [ours.encode(text) for text in texts],
        "encode_batch, 1 thread": lambda: ours.encode_batch(texts, threads=1),
        f"encode_batch, {cores} threads": lambda: ours.encode_batch(texts, threads=cores),
    }
    theirs: Ways = {
        "encode_ordinary": lambda: [bare.encode_ordinary(text) for text in texts],
        "encode_to_numpy": lambda: [bare.encode_to_numpy(text, disallowed_special=()) for text in texts],
        "encode_ordinary_batch, 1 thread": lambda: bare.encode_ordinary_batch(texts, num_threads=1),
        f"encode_ordinary_batch, {cores} threads": lambda: bare.encode_ordinary_batch(texts, num_threads=cores),
    }
    return mine, theirs


def sentencepiece_ways(ours: SentencePieceTokenizer, texts: list[str], cores: int) -> tuple[Ways, Ways]:
    """Return our ways to encode texts, and the bare library's."""
    bare = sentencepiece.SentencePieceProcessor(model_proto=ours.model)
    cold = [SentencePieceTokenizer(ours.model) for _ in range(2)]

    def forget(which: int) -> SentencePieceTokenizer:
        words = cold[which]._words
        if words is not None:
            words.known.clear()
        return cold[which]

    mine: Ways = {
        "encode, cold": lambda: [tokenizer.encode(text) for tokenizer in [forget(0)] for text in texts],
        "encode_batch, cold, 1 thread": lambda: forget(1).encode_batch(texts),
        "encode, warm": lambda: [ours.encode(text) for text in texts],
    }
    theirs: Ways = {
        "encode": lambda: [bare.encode(text) for text in texts],
        f"encode, {cores} threads": lambda: bare.encode(texts, num_threads=cores),
    }
    return mine, theirs


def measure(mine: Ways, theirs: Ways, megabytes: float, rounds: int) -> dict[str, Any]:
    """Time all ways in turn, round by round; return medians and the ratio of the best of each."""
    speeds: dict[str, list[float]] = {}
    ways = {**{f"ours: {name}": way for name, way in mine.items()}, **{f"peer: {name}": way for name, way in theirs.items()}}
    for way in ways.values():
        way()  # first calls fill caches of both sides
    for turn in range(rounds):
        for name, way in sorted(ways.items(), reverse=turn % 2 == 1):
            start = time.perf_counter()
            way()
            speeds.setdefault(name, []).append(megabytes / (time.perf_counter() - start))
    medians = {name: round(statistics.median(values), 2) for name, values in sorted(speeds.items())}
    ours = max((name for name in medians if name.startswith("ours") and "warm" not in name), key=medians.__getitem__)
    peer = max((name for name in medians if name.startswith("peer")), key=medians.__getitem__)
    plain = f"ours: {next(iter(mine))}", f"peer: {next(iter(theirs))}"

    def pairs(first: str, second: str) -> list[float]:
        return [round(a / b, 3) for a, b in zip(speeds[first], speeds[second], strict=True)]

    return {
        "megabytes_per_second": medians,
        "best": [ours, peer],
        "ratio_best_to_best": statistics.median(pairs(ours, peer)),
        "ratio_of_each_round": pairs(ours, peer),
        "ratio_one_call_a_text": statistics.median(pairs(*plain)),
    }


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
            megabytes = sum(len(text.encode()) for text in texts) / 1e6
            ways = tiktoken_ways if isinstance(tokenizer, TiktokenTokenizer) else sentencepiece_ways
            mine, theirs = ways(tokenizer, texts, cores)  # type: ignore[arg-type]
            same = [list(ids) for ids in next(iter(mine.values()))()] == next(iter(theirs.values()))()
            if not same:
                sys.exit(f"{family}, {shape}: ids differ from the peer's")
            facts = {"family": family, "vocab_size": tokenizer.vocab_size, "texts": shape, "documents": len(texts), "megabytes": round(megabytes, 2)}
            results.append({**facts, "load_seconds": round(seconds, 3), **measure(mine, theirs, megabytes, options.rounds)})
    line = {"benchmark": "tokenizers", "command": "python benchmarks/bench_tokenizers.py", "rounds": options.rounds, "cores": cores, "results": results,
            "machine": machine_facts("tiktoken", "sentencepiece", "tokenizers", "herdling")}  # fmt: skip
    print(json.dumps(line))
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(json.dumps(line, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
