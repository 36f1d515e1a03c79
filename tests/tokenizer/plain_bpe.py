"""Byte-level BPE training as slowly and plainly as it can be written: the independent word on what the Rust trainer should find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import regex

Pair = tuple[bytes, bytes]


def train(texts: Iterable[str], pattern: str, num_merges: int, prefer: Callable[[Pair, dict[bytes, int]], Any]) -> list[Pair]:
    """Return the merges in their order. Among equally frequent pairs the one with the greatest `prefer(pair, ranks)` wins."""
    counts = Counter(word.encode() for text in texts for word in regex.findall(pattern, text))
    words = {word: [word[i : i + 1] for i in range(len(word))] for word in counts}
    ranks = {bytes([byte]): byte for byte in range(256)}
    merges: list[Pair] = []
    for _ in range(num_merges):
        pairs: Counter[Pair] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], prefer(pair, ranks)))
        merges.append(best)
        ranks[best[0] + best[1]] = len(ranks)
        words = {word: merge(parts, best) for word, parts in words.items()}
    return merges


def merge(parts: list[bytes], pair: Pair) -> list[bytes]:
    """Join each occurrence of the pair, from the left."""
    merged: list[bytes] = []
    place = 0
    while place < len(parts):
        joins = tuple(parts[place : place + 2]) == pair
        merged.append(pair[0] + pair[1] if joins else parts[place])
        place += 2 if joins else 1
    return merged


def smallest_ids(pair: Pair, ranks: dict[bytes, int]) -> tuple[int, int]:
    """Prefer the pair with the smaller ids: rustbpe's rule."""
    return -ranks[pair[0]], -ranks[pair[1]]


def greatest_bytes(pair: Pair, ranks: dict[bytes, int]) -> Pair:
    """Prefer the pair that is greater as bytes: the rule of Stanford's course CS336."""
    return pair
