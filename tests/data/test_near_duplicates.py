"""Near duplicates: clusters of what points the same way; in each the best is kept, and nothing too much like it."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.data.near_duplicates import clusters, keep_unlike


def unit(*angles: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Vectors in the plane at these angles, in degrees."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_groups_that_lie_apart_are_found_whatever_the_seed() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    centres = np.eye(8, dtype=np.float32)[:4]
    truth = rng.integers(0, 4, 400)
    vectors = centres[truth] + 0.1 * rng.standard_normal((400, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for seed in range(5):
        found = clusters(vectors, 4, seed)
        assert len(np.unique(found)) == 4
        for cluster in np.unique(found):
            assert len(np.unique(truth[found == cluster])) == 1


def test_the_same_seed_gives_the_same_clusters_and_copies_need_no_more_than_one() -> None:
    vectors = unit(*range(0, 180, 3))
    assert (clusters(vectors, 5, 1) == clusters(vectors, 5, 1)).all()
    assert len(np.unique(clusters(unit(30, 30, 30), 3, 1))) == 1
    assert clusters(unit(0, 90), 10, 1).tolist() in ([0, 1], [1, 0])


def test_from_the_best_down_what_is_too_much_like_a_kept_one_goes() -> None:
    # cos 10 = 0.985, cos 20 = 0.940, cos 30 = 0.866
    vectors = unit(0, 10, 20, 30)
    one = np.zeros(4, np.int64)
    assert keep_unlike(vectors, one, np.array([4.0, 3, 2, 1]), 0.95).tolist() == [True, False, True, False]
    assert keep_unlike(vectors, one, np.array([1.0, 4, 2, 3]), 0.95).tolist() == [False, True, False, True]
    assert keep_unlike(vectors, one, np.array([4.0, 3, 2, 1]), 0.9).tolist() == [True, False, False, True]


def test_equal_scores_go_by_their_order_and_exact_copies_always() -> None:
    vectors = unit(5, 5, 5)
    assert keep_unlike(vectors, np.zeros(3, np.int64), np.ones(3), 0.999).tolist() == [True, False, False]


def test_dialogs_of_different_clusters_are_not_compared() -> None:
    vectors = unit(0, 1)
    assert keep_unlike(vectors, np.array([0, 1]), np.ones(2), 0.5).tolist() == [True, True]


@pytest.mark.parametrize("max_cosine", [0.5, 0.8, 0.99])
def test_no_two_kept_ones_of_a_cluster_are_alike_and_each_dropped_one_is_like_a_better_one(max_cosine: float) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    vectors = rng.standard_normal((120, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    member, score = clusters(vectors, 6, 1), rng.random(120)
    kept = keep_unlike(vectors, member, score, max_cosine)
    cosine = vectors @ vectors.T
    for index in range(120):
        better = kept & (member == member[index]) & (score > score[index])
        assert kept[index] == (not better.any() or cosine[index][better].max() < max_cosine)
