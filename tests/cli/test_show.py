"""`herdling show`: lineage, settings, curves, samples; errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from typer.testing import CliRunner

from herdling.base.artifact import Artifact, read_artifact, write_json_atomic
from herdling.base.errors import DataError, HerdlingError, LineageError
from herdling.cli.show import show
from herdling.cli.training_rows import parents
from herdling.data.first_rows import keep_first_rows, plain_rows, read_first_rows
from herdling.recipe import run
from herdling.report.batch import decoded_rows, draw_row
from herdling.report.curves import Curve, CurveChart
from herdling.report.terminal import draw_chart
from herdling.types import Batch
from tests.made_run import HOSTILE

app = typer.Typer()
app.command()(show)


def shown(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_run_shows_its_artifacts_in_the_order_they_were_made(made_run: list[Artifact], tmp_path: Path) -> None:
    (tmp_path / "quickstart" / ".report.partial").mkdir()
    text = shown(tmp_path / "quickstart")
    places = [text.index(f"\n{artifact.folder.name} ") if number else 0 for number, artifact in enumerate(made_run[:3])]
    assert places == sorted(places)
    assert "report  unfinished" in text
    assert "from prepare_data, train_tokenizer" in text


def test_an_artifact_shows_lineage_settings_curves_and_samples(made_run: list[Artifact]) -> None:
    text = shown(made_run[3].folder)
    assert text.startswith("pretrain: model made by pretrain in 4m 41s")
    assert "optimizer.lr = 0.003" in text
    assert "Training loss, nats per token" in text
    assert "export" not in text  # made of it, not the other way round
    text = shown(made_run[4].folder)
    assert HOSTILE in text
    assert "> Who are you?" in text
    assert "set aside: exact duplicate" in text


def test_json_is_for_programs(made_run: list[Artifact], tmp_path: Path) -> None:
    assert json.loads(shown(made_run[0].folder, "--json")) == made_run[0].manifest
    run = json.loads(shown(tmp_path / "quickstart", "--json"))
    assert run["stages"][0]["name"] == "prepare_data"
    assert len(run["stages"]) == len(made_run)


def test_recipes_and_model_folders_show_their_settings(made_run: list[Artifact], tmp_path: Path) -> None:
    assert "stages.sft.kind = sft" in shown(tmp_path / "quickstart" / "recipe.json")
    (tmp_path / "model").mkdir()
    write_json_atomic(tmp_path / "model" / "config.json", {"model_type": "llama", "rope_scaling": {"factor": 8.0}})
    assert "rope_scaling.factor = 8" in shown(tmp_path / "model")


def test_what_is_nothing_of_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match="there is no such path"):
        shown(tmp_path / "nothing")
    with pytest.raises(LineageError, match=r"holds nothing that herdling knows: no finished artifact, no run, no model folder$"):
        shown(tmp_path)


def test_batch_of_what_was_not_trained_says_so(made_run: list[Artifact]) -> None:
    with pytest.raises(HerdlingError):
        shown(made_run[0].folder, "--batch")


def test_batch_of_tokens_is_the_text_with_its_borders(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for name in ("one", "two", "three", "four"):
        (tmp_path / "text" / f"{name}.txt").write_text(f"This is the text called {name}: <|eot_id|> is plain. " * 40)
    recipe = tmp_path / "mini.toml"
    recipe.write_text(
        f'[stages.prepare_data]\nsources = {{ own = "{tmp_path / "text"}" }}\n[stages.train_tokenizer]\ndata = "@prepare_data"\nvocab_size = 300\n'
        '[stages.tokenize]\ndata = "@prepare_data"\ntokenizer = "@train_tokenizer"\n'
    )
    tokens = run(recipe, runs=tmp_path / "runs")["tokenize"].folder
    (row,) = json.loads(shown(tokens, "--batch", "--rows", "1", "--json"))
    assert row[0] == {"id": row[0]["id"], "text": "<|begin_of_text|>", "document": 0, "supervised": False}
    assert all(token["supervised"] for token in row[1:] if token["text"] != "<|begin_of_text|>")
    said = "".join(token["text"] for token in row)
    assert "This is the text called" in said
    assert "<|eot_id|> is plain" in said
    assert "256 supervised" in shown(tokens, "--batch", "--rows", "1") or "255 supervised" in shown(tokens, "--batch", "--rows", "1")


def test_a_run_that_was_moved_finds_its_parents_beside_it(made_run: list[Artifact], tmp_path: Path) -> None:
    (tmp_path / "quickstart").rename(tmp_path / "moved")
    assert parents(read_artifact(tmp_path / "moved" / "tokenize")) == {
        "@prepare_data": tmp_path / "moved" / "prepare_data",
        "@train_tokenizer": tmp_path / "moved" / "train_tokenizer",
    }
    (tmp_path / "moved" / "prepare_data").rename(tmp_path / "gone")
    with pytest.raises(LineageError, match="which is gone"):
        parents(read_artifact(tmp_path / "moved" / "tokenize"))


def test_a_token_is_supervised_where_an_earlier_position_was_trained_to_say_it() -> None:
    # One row: document 0 "ab", of which "b" is trained; document 1 "cd", of which "d" and the label after it, "e"; no padding but the last position.
    batch = Batch(
        input_ids=torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]]),
        labels=torch.tensor([[2, 3, 4, 5], [2, 0, 0, 0]]),
        loss_mask=torch.tensor([[True, False, True, True], [True, False, False, False]]),
        position_ids=torch.tensor([[0, 1, 0, 1], [0, 1, 0, 0]]),
        document_ids=torch.tensor([[0, 0, 1, 1], [0, 0, -1, -1]]),
    )
    letters = SimpleNamespace(token_text=lambda token: "_abcde"[token])
    first, second = decoded_rows(plain_rows(batch), letters)  # type: ignore[arg-type]
    assert [(token.text, token.document, token.supervised) for token in first] == [
        ("a", 0, False),
        ("b", 0, True),
        ("c", 1, False),
        ("d", 1, True),
        ("e", 1, True),
    ]
    assert "".join(token.text for token in second) == "ab"
    assert draw_row(first, 0).plain == "row 0: 5 tokens, 3 supervised, 2 documents\nabcde\n"


def test_first_rows_are_kept_once_as_they_were(tmp_path: Path) -> None:
    def batch(token: int) -> Batch:
        numbers = torch.full((6, 2), token)
        return Batch(input_ids=numbers, labels=numbers, loss_mask=numbers > 0, position_ids=numbers, document_ids=numbers)

    keep_first_rows(tmp_path, SimpleNamespace(batches=lambda step: iter([batch(7), batch(8)])))
    keep_first_rows(tmp_path, SimpleNamespace(batches=lambda step: iter([batch(9)])))  # goes on after an interruption
    assert read_first_rows(tmp_path) == {"input_ids": [[7, 7]] * 4, "labels": [[7, 7]] * 4, "loss_mask": [[1, 1]] * 4, "document_ids": [[7, 7]] * 4}
    with pytest.raises(DataError, match="keeps no rows of training"):
        read_first_rows(tmp_path / "elsewhere")


def test_terminal_chart_begins_high_and_ends_low_for_a_falling_curve() -> None:
    chart = CurveChart(title="Loss", x_unit="tokens", y_unit="nats", curves=[Curve(label="train", points=[(0.0, 4.0), (100.0, 2.0)])])
    lines = draw_chart(chart, width=20, height=4).plain.splitlines()
    dotted = [line for line in lines if "┤" in line]
    assert len(dotted) == 4
    assert dotted[0].split("┤")[1][0] not in (" ", "\u2800")
    assert dotted[-1].split("┤")[1].rstrip() != ""
    assert lines[-1].endswith("100 tokens")
