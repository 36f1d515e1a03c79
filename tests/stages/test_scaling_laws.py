"""A sweep of seconds: what it writes, that it goes on, what it leaves out, what it refuses, and a model that it chose."""

import csv
import json
from pathlib import Path

import pytest
import torch

from herdling.base.artifact import file_digests, write_json_atomic
from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError, SettingsError, Stopped
from herdling.base.progress import SilentProgress
from herdling.model.family import member
from herdling.plan.measurements import read_losses
from herdling.plan.sweep_points import point_at
from herdling.stages import sweep_runs
from herdling.stages.pretrain import Pretrain
from herdling.stages.scaling_laws import ScalingLaws
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig
from tests.killing import run_killed
from tests.stages.toy_training import LOOP, make_inputs, stage_run

SETTINGS = {
    "tokens": "tokens",
    "tokenizer": "tokenizer",
    "budgets": ["6e9", "1.2e10", "2.4e10", "4.8e10"],
    "sizes": ["8K", "21K", "36K", "99K"],
    "sequence_length": 32,
    "max_epochs": 1e6,
    "validation_tokens": 1024,
    "target": ["1e11"],
    "loop": LOOP,
}
E, A, B, ALPHA, BETA = 1.2, 40.0, 60.0, 0.35, 0.38
"""A law of the tests: its optimum at these budgets lies among their sizes."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    torch.set_num_threads(1)
    return make_inputs(tmp_path_factory.mktemp("sweep") / "inputs")


def law(parameters, tokens):
    return E + A / parameters**ALPHA + B / tokens**BETA


def points_of(settings):
    return decode(ScalingLaws, settings, "stages.sweep")._points(300, "stages.sweep")


def trained_before(folder: Path, settings, broken=()):
    """Write the results of all runs as if they had been trained, with losses of the law; those named `broken` diverged."""
    for point in points_of(settings):
        loss = None if point.name in broken else law(point.parameters, point.num_tokens)
        row = {"name": point.name, "compute_budget": point.flops, "parameters": point.parameters, "training_tokens": point.num_tokens, "validation_loss": loss}
        row |= {"exact_flops": point.exact_flops, "steps": 20, "batch_tokens": point.batch_tokens, "lr": point.lr, "reason": "" if loss else "diverged: test"}
        (folder / "runs" / point.name).mkdir(parents=True)
        write_json_atomic(folder / "runs" / point.name / "result.json", row)


def run_sweep(inputs, folder, **settings):
    run = stage_run("sweep", inputs, folder)
    decode(ScalingLaws, {**SETTINGS, **settings}, "stages.sweep").run(run)
    return run.summary


@pytest.fixture(scope="module")
def swept(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept") / "law"
    trained_before(folder, SETTINGS)
    return folder, run_sweep(inputs, folder)


def test_finished_runs_are_not_trained_again_and_their_law_comes_out(swept):
    folder, summary = swept
    assert not list(folder.glob("runs/*/metrics.jsonl"))
    fitted = json.loads((folder / "fit.json").read_text())
    assert fitted["parametric"]["E"] == pytest.approx(E, rel=1e-3)
    assert fitted["parametric"]["alpha"] == pytest.approx(ALPHA, rel=1e-3)
    assert fitted["isoflop"]["alpha"] > 0
    assert fitted["disagreement"].keys() == {"1e11"}
    assert "mean_relative_error" in fitted["held_out"]
    assert summary["runs"] == 16
    assert summary["left_out"] == 0


def test_the_forecast_of_a_target_is_that_of_the_lowest_points_at_its_size_and_tokens(swept):
    folder, summary = swept
    found = json.loads((folder / "forecast.json").read_text())["1e11"]
    assert 6 * found["parameters"] * found["tokens"] == pytest.approx(1e11, rel=1e-3)
    assert found["law"] == pytest.approx(law(found["parameters"], found["tokens"]), rel=1e-4)
    assert found["loss"] == found["curve"] == pytest.approx(found["law"], rel=2e-3)  # losses of a law have lowest points near a curve
    assert found["low"] <= found["loss"] <= found["high"]
    assert found["by_exact_flops"].keys() == {"parameters", "tokens"}
    assert "loss" in summary["forecast_1e11"]


def test_the_table_is_read_by_fit_and_the_pictures_stand(swept):
    folder, _ = swept
    rows = read_losses(folder / "losses.csv")
    assert len(rows.loss) == 16
    assert rows.convention == "parameters"
    for name in ("isoflop.svg", "law.svg"):
        assert (folder / name).read_text().startswith("<svg")


def test_a_run_that_diverged_is_counted_and_left_out_of_the_fit(inputs, tmp_path):
    broken = points_of(SETTINGS)[0].name
    trained_before(tmp_path, SETTINGS, broken=[broken])
    summary = run_sweep(inputs, tmp_path)
    assert summary["left_out"] == 1
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert ledger["dropped"]["diverged"]["count"] == 1
    with (tmp_path / "losses.csv").open() as file:
        assert broken not in [row["name"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"budgets": ["6e9"]}, "found 1; a power law needs at least two budgets"),
        ({"budgets": []}, "expected either budgets, or smallest and largest"),
        ({"sizes": ["8K", "9K"]}, "name 1 sizes of the family; a parabola needs 3"),
        ({"budgets": ["1e7", "2e7"]}, "expected 20 or more"),
        ({"budgets": ["many", "2e9"]}, "found 'many', expected FLOPs above 0"),
    ],
)
def test_what_cannot_be_laid_out_is_refused_with_its_place(inputs, tmp_path, settings, complaint):
    with pytest.raises(SettingsError, match=complaint):
        run_sweep(inputs, tmp_path, **settings)


def test_too_few_finished_runs_give_the_error_of_the_fits(inputs, tmp_path):
    settings = {**SETTINGS, "sizes": ["8K", "21K", "36K"]}
    trained_before(tmp_path, settings, broken=[points_of(settings)[0].name])
    with pytest.raises(DataError, match="has 2 runs of 2 sizes, a parabola needs at least 3 sizes"):
        run_sweep(inputs, tmp_path, **settings)


def test_text_that_is_too_little_is_said_before_anything_is_trained(inputs, tmp_path):
    with pytest.raises(DataError, match="tokens are asked for, but the sources hold"):
        run_sweep(inputs, tmp_path, max_epochs=0.01)
    assert not (tmp_path / "runs").exists()


def two_runs(inputs, folder, **settings):
    sweep = sweep_runs.Sweep(
        folder=folder,
        texts=inputs / "tokens",
        tokenizer=json.loads((inputs / "tokens" / "code.train" / "shard.json").read_text())["tokenizer"],
        sources={},
        max_epochs=1e6,
        sequence_length=32,
        validation_tokens=1024,
        optimizer=OptimizerConfig(**settings),
        schedule=ScheduleConfig(),
        loop=decode(LoopConfig, {**LOOP, "checkpoint": {"every_seconds": 1e9, "every_steps": 5}}, "loop"),
        seed=1,
        where="stages.sweep",
    )
    return sweep, [point_at(8e8, member(size, vocab_size=300, sequence_length=32)) for size in (8e3, 21e3)]


def train_two(inputs, folder, workers=1):
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    sweep, points = two_runs(inputs, folder)
    rows = sweep_runs.train_points(sweep, points, workers=workers, progress=SilentProgress(), stop_requested=lambda: False)
    (folder / "done").touch()
    return rows


@pytest.fixture(scope="module")
def straight(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "sweep"
    return folder, train_two(inputs, folder)


def digests(folder):
    return {name: entry["sha256"] for name, entry in file_digests(folder).items()}


def test_killed_at_random_moments_a_sweep_ends_with_the_same_bits(inputs, tmp_path, straight):
    (tmp_path / "killed").mkdir()
    killed = run_killed(train_two, (inputs, tmp_path / "killed"), tmp_path / "killed" / "done", kills=3)
    assert killed >= 1
    assert digests(tmp_path / "killed") == digests(straight[0])


@pytest.mark.slow
def test_side_by_side_gives_the_same_bits_as_in_turn(inputs, tmp_path, straight):
    train_two(inputs, tmp_path / "side", workers=2)
    assert digests(tmp_path / "side") == digests(straight[0])


def test_a_stop_is_clear_and_the_next_run_goes_on(inputs, tmp_path, straight):
    asked = iter([False] * 3 + [True] * 99)
    sweep, points = two_runs(inputs, tmp_path)
    with pytest.raises(Stopped, match="stopped after step"):
        sweep_runs.train_points(sweep, points, workers=1, progress=SilentProgress(), stop_requested=lambda: next(asked))
    assert train_two(inputs, tmp_path) == straight[1]


def test_every_run_is_measured_on_the_same_rows(straight):
    folder, rows = straight
    losses = sweep_runs.measured_rows(folder, [row["name"] for row in rows])
    first, second = losses.values()
    assert (first.num_tokens == second.num_tokens).all()
    assert first.mean == pytest.approx(rows[0]["validation_loss"])
    assert first.error(second) < first.error()


def test_a_learning_rate_beyond_reason_is_a_result_too(inputs, tmp_path):
    sweep, points = two_runs(inputs, tmp_path, lr=1e9)
    (row,) = sweep_runs.train_points(sweep, points[:1], workers=1, progress=SilentProgress(), stop_requested=lambda: False)
    assert row["validation_loss"] is None
    assert row["reason"].split(":")[0] in ("diverged", "learned nothing")


CHOSEN = {"tokens": "tokens", "tokenizer": "tokenizer", "scaling_law": "law", "flops": "2e9", "max_epochs": 1e6, "loop": LOOP}


def test_a_model_that_the_law_chose_is_measured_against_its_forecast(inputs, tmp_path, swept):
    run = stage_run("pretrain", inputs, tmp_path / "model")
    run.inputs = {**run.inputs, "law": swept[0]}
    decode(Pretrain, CHOSEN, "stages.pretrain").run(run)
    found = json.loads((tmp_path / "model" / "loss_forecast.json").read_text())
    assert found["law"] == pytest.approx(law(run.summary["parameters"], run.summary["tokens"]), rel=1e-4)
    assert found["loss"] == found["curve"] == pytest.approx(found["law"], rel=2e-3)
    assert found["relative_error"] == pytest.approx(found["measured"] / found["loss"] - 1)
    assert run.summary["held_out_loss"] == pytest.approx(found["measured"], abs=1e-4)
    assert 6 * run.summary["parameters"] * run.summary["tokens"] == pytest.approx(2e9, rel=0.06)
    assert (tmp_path / "model" / "loss_forecast.svg").read_text().startswith("<svg")


def test_a_sweep_and_the_model_that_it_chose_take_the_weights_of_one_mix(inputs, tmp_path):
    (tmp_path / "chosen").mkdir()
    weights = {"code": 0.85, "books": 0.15}
    write_json_atomic(tmp_path / "chosen" / "mix.json", {"name": "code", "weights": weights, "chance_best": 0.9, "not_told_apart": []})
    trained_before(tmp_path / "law", SETTINGS)
    sweep = stage_run("sweep", inputs, tmp_path / "law")
    sweep.inputs = {**sweep.inputs, "@mix": tmp_path / "chosen"}
    decode(ScalingLaws, {**SETTINGS, "target": [], "mix": "@mix"}, "stages.sweep").run(sweep)
    written = json.loads((tmp_path / "law" / "law.json").read_text())
    assert written["sources"] == written["weights"] == weights
    assert sweep.summary["mix"] == "code"
    run = stage_run("pretrain", inputs, tmp_path / "model")
    run.inputs = {**sweep.inputs, "law": tmp_path / "law"}
    with pytest.raises(SettingsError, match=r"stages.pretrain.sources: differs from what law was made with"):
        decode(Pretrain, CHOSEN, "stages.pretrain").run(run)
    assert decode(Pretrain, {**CHOSEN, "mix": "@mix"}, "stages.pretrain")._law(run, weights, "stages.pretrain")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"flops": None}, "scaling_law and flops go together"),
        ({"sources": {"code": 1.0}}, "stages.pretrain.sources: differs from what law was made with"),
    ],
)
def test_a_model_of_another_kind_than_the_law_is_refused(inputs, tmp_path, swept, settings, complaint):
    run = stage_run("pretrain", inputs, tmp_path / "model")
    run.inputs = {**run.inputs, "law": swept[0]}
    with pytest.raises(SettingsError, match=complaint):
        decode(Pretrain, {**CHOSEN, **settings}, "stages.pretrain").run(run)


def test_a_law_of_another_vocabulary_is_refused(inputs, tmp_path, swept):
    from herdling.stages.forecast_model import read_law

    with pytest.raises(LineageError, match="was fitted with 300 ids, the tokenizer here has 1,024"):
        read_law(swept[0]).size(2e9, 1024, "stages.pretrain.scaling_law")
