"""`herdling convert`: comparisons of an artifact in the forms of others, with what is lost said aloud."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from herdling.base.artifact import Artifact
from herdling.base.comparison_records import read_comparisons
from herdling.base.errors import DataError, HerdlingError, SettingsError
from herdling.base.records import read_jsonl
from herdling.cli.convert import convert
from herdling.recipe import Runner, decode_recipe

app = typer.Typer()
app.command()(convert)


def converted(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    source = tmp_path / "rows.jsonl"
    ratings = ["better", "significantly_better", "negligibly_better"]
    scores = {"score_chosen": 3, "score_rejected": 1, "site": "s"}
    rows = [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}", "qid": str(n), "rating": ratings[n % 3], **scores} for n in range(30)]
    source.write_text("\n".join(map(json.dumps, rows)))
    recipe = {"name": "r", "seed": 1, "stages": {"votes": {"kind": "prepare_comparisons", "path": str(source)}}}
    Runner(recipe=decode_recipe(recipe), runs=tmp_path / "runs").run()
    return tmp_path / "runs" / "r" / "votes"


def test_trl_rows_hold_texts_margins_and_ids(artifact: Path, tmp_path: Path) -> None:
    text = converted(artifact, tmp_path / "out.jsonl", "--to", "trl", "--margins", "large")
    made = list(read_comparisons(artifact, "train"))
    rows = [row for _, row in read_jsonl(tmp_path / "out.jsonl")]
    assert [row["id"] for row in rows] == [one.id for one in made]
    assert {row["margin"] for row in rows} == {2.0, 3.0, 0.0}
    assert rows[0]["chosen"] == [{"role": "assistant", "content": made[0].responses[0].message.content}]
    assert f"{len(made)} comparisons" in text
    assert "this form has no place for: responses between the best and the worst; rating; safety labels" in text


def test_what_cannot_be_said_is_set_aside_and_told_also_to_a_program(artifact: Path, tmp_path: Path) -> None:
    told = json.loads(converted(artifact, tmp_path / "out.jsonl.gz", "--to", "helpsteer3", "--split", "train", "--json"))
    levels = [one.rating for one in read_comparisons(artifact, "train")]
    assert told["dropped"]["cannot be expressed"]["count"] == levels.count("negligibly")
    assert told["written"] == told["kept"] == len(levels) - levels.count("negligibly")
    assert "set aside" in converted(artifact, tmp_path / "again.jsonl", "--to", "helpsteer3")


@pytest.mark.parametrize(
    ("arguments", "kind", "error"),
    [
        (("out.jsonl", "--to", "parquet"), SettingsError, "no form 'parquet' to write"),
        (("out.csv", "--to", "trl"), DataError, "written as .jsonl"),
        (("out.jsonl", "--to", "trl", "--margins", "huge"), SettingsError, "accepted: none, small, large"),
        (("out.jsonl", "--to", "trl", "--split", "dev"), DataError, "dev.jsonl: no such file"),
    ],
)
def test_a_wrong_wish_is_answered_with_what_is_accepted(
    artifact: Path, tmp_path: Path, arguments: tuple[str, ...], kind: type[HerdlingError], error: str
) -> None:
    with pytest.raises(kind, match=error):
        converted(artifact, tmp_path / arguments[0], *arguments[1:])
    assert not (tmp_path / arguments[0]).exists()


def test_another_artifact_is_refused(made_run: list[Artifact], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an artifact of kind data, expected comparisons"):
        converted(made_run[0].folder, tmp_path / "out.jsonl", "--to", "trl")
