from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.artifact import Artifact
from tests.made_run import make_run


@pytest.fixture
def made_run(tmp_path: Path) -> list[Artifact]:
    """The artifacts of a made-up run, in `tmp_path/quickstart`."""
    return make_run(tmp_path)
