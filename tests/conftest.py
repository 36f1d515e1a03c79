"""What all tests share. A worker of pytest-xdist keeps to one core, before torch counts them: two workers with two threads each would wait for each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if (worker := os.environ.get("PYTEST_XDIST_WORKER", "")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

os.environ["HERDLING_MACHINE"] = "off"  # measurements of a test never reach the record in the user's home, nor do they come from there

from herdling.base.artifact import Artifact
from tests.made_run import make_run


@pytest.fixture
def made_run(tmp_path: Path) -> list[Artifact]:
    """The artifacts of a made-up run, in `tmp_path/quickstart`."""
    return make_run(tmp_path)
