from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.errors import LineageError, SettingsError
from herdling.recipe.recipe import decode_recipe
from herdling.recipe.runner import Runner
from herdling.stages.registry import MODULES, ComparisonsInput, DataInput, StageRun, stage
from tests.preference.closed_round import closed_round

MODULES.setdefault("toy_read_round", __name__)
MODULES.setdefault("toy_read_data", __name__)


@stage("toy_read_round", output="report")
class ToyReadRound:
    """Count the comparisons of a round."""

    of: ComparisonsInput
    """The round to read."""

    def run(self, run: StageRun) -> None:
        """Write the number of lines."""
        lines = sum(len((run.input(self.of) / "comparisons" / f"{split}.jsonl").read_text().splitlines()) for split in ("train", "test"))
        (run.folder / "count.txt").write_text(str(lines))


@stage("toy_read_data", output="report")
class ToyReadData:
    """Read what is no round."""

    of: DataInput
    """The data to read."""

    def run(self, run: StageRun) -> None:
        """Do nothing."""


def runner(tmp_path: Path, kind: str, reference: Path) -> Runner:
    return Runner(recipe=decode_recipe({"name": "run", "stages": {"read": {"kind": kind, "of": str(reference)}}}), runs=tmp_path / "runs")


def test_a_recipe_reads_a_closed_round_by_its_path(tmp_path: Path) -> None:
    folder = closed_round(tmp_path, num_comparisons=5)
    artifacts = runner(tmp_path, "toy_read_round", folder).run()
    assert (artifacts["read"].folder / "count.txt").read_text() == "5"


def test_a_round_does_not_pass_for_something_else(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds comparisons, expected data or samples"):
        runner(tmp_path, "toy_read_data", closed_round(tmp_path, num_comparisons=2)).run()


def test_a_recipe_refuses_a_round_whose_bytes_changed(tmp_path: Path) -> None:
    folder = closed_round(tmp_path, num_comparisons=2)
    (folder / "comparisons" / "train.jsonl").write_text("")
    with pytest.raises(LineageError, match=r"train.jsonl: is not what helpful-01 wrote"):
        runner(tmp_path, "toy_read_round", folder).run()
