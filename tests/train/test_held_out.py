"""The reward of held-out prompts: training ends where it no longer rises, the best is kept, and no look is made twice."""

from __future__ import annotations

from pathlib import Path

from tests.train.toy_ppo import feed_of, move, take, watch


def test_training_ends_where_the_held_out_reward_no_longer_rises_and_the_best_is_kept(tmp_path: Path) -> None:
    feed, saved = feed_of(tmp_path, iterations=9), list[str]()
    feed.held_out = watch(feed, [1.0, 2.0, 2.0, 1.5, 9.0], 2, saved)
    assert len(list(feed.batches(0))) == 2 * 3  # 0, 1 and 2; before iteration 3 two looks had brought nothing
    assert saved == ["00000", "00001"]
    assert feed.held_out.best(9)["iteration"] == 1
    assert [path.name for path in (tmp_path / "ppo" / "best").iterdir()] == ["00001"]


def test_a_look_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, starts_at_reference=False)
    feed.held_out = watch(feed, [1.0], 0, [])
    take(feed, 0, 1)
    take(feed, 0, 1)
    assert [row["reward"] for row in feed.held_out.points(4)] == [1.0]
    move(feed)
    feed.held_out = watch(feed, [3.0], 0, [])
    take(feed, 0, 1)
    assert [row["reward"] for row in feed.held_out.points(4)] == [3.0]
