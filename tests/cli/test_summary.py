"""What a run ends with on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdling.cli.summary import print_summary
from tests.made_judgement import make_judgement


def test_a_run_that_judged_ends_with_who_won_and_what_the_watch_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (judged,) = make_judgement(tmp_path)
    print_summary(tmp_path / "rounds", {"judge": judged})
    said = capsys.readouterr().out
    assert "Later models over earlier ones" in said
    assert "format" in said  # the skill that was lost
    assert "judge: Goodhart watch: WARNING: from ppo to ppo, no KL penalty the reward trained for rose by" in said.replace("\n", " ")
