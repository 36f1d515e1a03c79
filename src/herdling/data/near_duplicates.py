"""Texts that say nearly the same, by vectors: in each cluster the best are kept as long as they are unlike those before (Llama 3, section 4.2.3).

Works on vectors of unit length, whoever made them. Costs N x K x D for each round of clustering and, in a cluster of n, n times its kept ones; memory is the
vectors and one block of similarities. Which texts are best is told by the caller: quality x difficulty in the paper, which prints no threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from herdling.base.seeds import stream

Vectors = NDArray[np.float32]
NUM_ROUNDS = 20
BLOCK = 4096
"""Vectors whose similarities to the centres are in memory at a time."""


def clusters(vectors: Vectors, count: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each of the unit vectors `[N, D]`, int64 `[N]`: k-means by cosine, from centres that are drawn far apart.

    The number of clusters is at most `count`; rounds end when no vector changes its cluster, at the latest after `NUM_ROUNDS`.
    """
    centres = _far_apart(vectors, min(count, len(vectors)), seed)
    member = np.full(len(vectors), -1, np.int64)
    for _ in range(NUM_ROUNDS):
        nearest = _nearest(vectors, centres)
        if (nearest == member).all():
            break
        member = nearest
        sums = np.zeros(centres.shape, np.float64)
        np.add.at(sums, member, vectors)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres).astype(np.float32)  # an empty cluster stays where it was
    return member


def _far_apart(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Draw centres among the vectors, each with a chance that grows with its distance from those drawn (Arthur and Vassilvitskii 2007, k-means++)."""
    rng = stream(seed, "cluster centres")
    chosen = [int(rng.integers(len(vectors)))]
    distance = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        weight = np.maximum(distance, 0.0).astype(np.float64)
        if weight.sum() <= 1e-9:  # only copies are left
            break
        chosen.append(int(rng.choice(len(vectors), p=weight / weight.sum())))
        distance = np.minimum(distance, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen]


def _nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.int64]:
    blocks = [np.argmax(vectors[start : start + BLOCK] @ centres.T, axis=1) for start in range(0, len(vectors), BLOCK)]
    return np.concatenate(blocks).astype(np.int64)


def keep_unlike(vectors: Vectors, member: NDArray[np.int64], score: NDArray[np.float64], max_cosine: float) -> NDArray[np.bool_]:
    """Return which texts are kept, bool `[N]`: in each cluster from the highest score down, those whose largest cosine to the kept ones is below `max_cosine`.

    Equal scores go by their order.
    """
    kept = np.zeros(len(vectors), bool)
    for cluster in np.unique(member):
        inside = np.flatnonzero(member == cluster)
        chosen: list[int] = []
        for index in inside[np.argsort(-score[inside], kind="stable")]:
            if not chosen or float(np.max(vectors[chosen] @ vectors[index])) < max_cosine:
                chosen.append(int(index))
        kept[chosen] = True
    return kept
