"""A closed round of a small campaign, for tests of what reads one."""

from __future__ import annotations

from pathlib import Path

from herdling.preference.store import Store
from tests.preference.desk import Clock, Desk


def closed_round(folder: Path, *, num_comparisons: int) -> Path:
    """Let Ann judge so many prompts and close the round. Returns the artifact's folder."""
    clock, url = Clock(), f"sqlite:///{folder}/preferences.db"
    store = Store(url, clock=clock)
    desk = Desk.furnish(store, clock, url)
    campaign = desk.campaign(prompts=num_comparisons)
    for _ in range(num_comparisons):
        desk.judge(desk.next(campaign, desk.ann), desk.ann)
    artifact = store.rounds.close(campaign, folder / "rounds")
    store.close()
    return artifact.folder
