"""Named streams of random numbers: every use of chance says whose it is, so that adding one use never shifts another.

A stream is named by the run's seed and any number of words and counters (stage, purpose, epoch, rank). The same name gives the same numbers on every
machine, Python version and number of ranks.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, *names: str | int) -> int:
    """Return the 63-bit seed of the stream that these names make."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a numpy generator for the named stream."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))
