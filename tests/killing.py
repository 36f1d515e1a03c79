"""Run a function in processes that are killed at random moments, as a machine that loses power would."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_killed(target: Callable[..., None], args: tuple[Any, ...], done: Path, *, kills: int = 5, longest: float = 1.0) -> int:
    """Run a function in processes that are killed (SIGKILL) after random times, until it gets to its end. Returns how many were killed.

    Processes start in milliseconds: they are forked from one that has imported torch and computed nothing. The first is killed soon, each next one may live
    longer: work that takes a second on a quiet machine is killed there too.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.tiny"])
    chance, killed = random.Random(time.time_ns()), 0
    while not done.exists():
        worker = context.Process(target=target, args=args)
        worker.start()
        worker.join(chance.uniform(0.1, max(0.15, longest * (killed + 1) / kills)) if killed < kills else None)
        if worker.is_alive():
            worker.kill()
            worker.join()
            killed += 1
        else:
            assert worker.exitcode == 0
    return killed
