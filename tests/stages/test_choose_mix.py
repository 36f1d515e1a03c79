"""Mixes of seconds: the best by a known law is chosen, what diverged is left out, every run is measured on the same rows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from herdling.base.artifact import write_json_atomic
from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError
from herdling.plan.measurements import read_mixes
from herdling.stages.choose_mix import ChooseMix
from herdling.tokenizer import load_tokenizer
from tests.stages.toy_training import LOOP, make_inputs, stage_run

SETTINGS = {
    "tokens": "tokens",
    "tokenizer": "tokenizer",
    "mixes": {"code": {"code": 0.9, "books": 0.1}, "even": {"code": 0.5, "books": 0.5}},
    "budgets": ["6e9", "1.2e10", "2.4e10", "4.8e10"],
    "target": "1e12",
    "sequence_length": 32,
    "max_epochs": 1e6,
    "validation_tokens": 1024,
    "loop": LOOP,
}
FLOORS = {"code": {"code": 1.0, "books": 2.0}, "even": {"code": 1.2, "books": 1.4}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    torch.set_num_threads(1)
    return make_inputs(tmp_path_factory.mktemp("mixes") / "inputs")


def true_loss(mix, source, parameters, tokens):
    return FLOORS[mix][source] + 30 / parameters**0.35 + 40 / tokens**0.35


def trained_before(inputs, folder: Path, broken=()):
    """Write the results of all runs as if they had been trained, with losses of the law on every held-out row; those of (mix, number) in `broken` diverged."""
    settings = decode(ChooseMix, SETTINGS, "stages.mixes")
    sweeps = settings._sweeps(stage_run("mixes", inputs, folder), load_tokenizer(inputs / "tokenizer").fingerprint, "stages.mixes")
    for mix, sweep in sweeps.items():
        held_out = sweep.held_out().mixture
        sources = [held_out.sources[number] for number in held_out.rows(0, held_out.num_rows)[0]]
        for number, point in enumerate(settings._points(300, "stages.mixes")):
            runs = sweep.folder / "runs" / point.name
            runs.mkdir(parents=True)
            row = {"name": point.name, "parameters": point.parameters, "training_tokens": point.num_tokens, "validation_loss": 2.0, "reason": ""}
            row |= {"validation_loss": None, "reason": "diverged: test"} if (mix, number) in broken else {}
            write_json_atomic(runs / "result.json", row)
            tokens = np.arange(1.0, len(sources) + 1)
            losses = np.array([true_loss(mix, source, point.parameters, point.num_tokens) for source in sources])
            np.save(runs / "row_losses.npy", np.stack([losses * tokens, tokens]))


def choose(inputs, folder, **settings):
    run = stage_run("mixes", inputs, folder)
    decode(ChooseMix, {**SETTINGS, **settings}, "stages.mixes").run(run)
    return run.summary


def test_the_mix_that_is_best_by_the_law_is_chosen_and_all_is_written(inputs, tmp_path):
    trained_before(inputs, tmp_path)
    summary = choose(inputs, tmp_path)
    assert summary["best"] == "even"
    assert summary["not_told_apart"] == "none"
    assert (summary["runs"], summary["left_out"]) == (8, 0)
    found = json.loads((tmp_path / "mixes.json").read_text())
    at = found["at"]["parameters"], found["at"]["tokens"]
    assert at[0] * at[1] * 6 == pytest.approx(1e12)
    for mix in FLOORS:
        for source in ("code", "books"):
            assert found["mixes"][mix]["losses"][source]["loss"] == pytest.approx(float(true_loss(mix, source, *at)), rel=0.02)
    assert (tmp_path / "mixes.svg").read_text().startswith("<svg")
    assert choose(inputs, tmp_path, importance={"code": 1.0})["best"] == "code"


def test_the_chosen_mix_stands_in_a_file_with_its_weights_and_how_sure_it_is(inputs, tmp_path):
    trained_before(inputs, tmp_path)
    choose(inputs, tmp_path)
    chosen = json.loads((tmp_path / "mix.json").read_text())
    found = json.loads((tmp_path / "mixes.json").read_text())
    assert chosen == {
        "name": "even",
        "weights": SETTINGS["mixes"]["even"],
        "loss": found["mixes"]["even"]["mean"],
        "interval": found["mixes"]["even"]["interval"],
        "chance_best": found["mixes"]["even"]["chance_best"],
        "not_told_apart": [],
        "at": found["at"],
    }


def test_a_source_has_the_loss_of_its_own_rows(inputs, tmp_path):
    trained_before(inputs, tmp_path)
    choose(inputs, tmp_path)
    rows = read_mixes(tmp_path / "mixes.csv")
    for row, mix in enumerate(rows.mixes):
        assert rows.losses["books"][row] == pytest.approx(true_loss(mix, "books", rows.parameters[row], rows.tokens[row]))


def test_all_mixes_are_measured_on_the_same_rows_with_every_source_alike(inputs, tmp_path):
    sweeps = decode(ChooseMix, SETTINGS, "stages.mixes")._sweeps(
        stage_run("mixes", inputs, tmp_path), load_tokenizer(inputs / "tokenizer").fingerprint, "stages.mixes"
    )
    held_out = [sweep.held_out() for sweep in sweeps.values()]
    assert len({rows.fingerprint for rows in held_out}) == 1
    drawn = held_out[0].mixture.drawn_rows(held_out[0].num_rows)
    assert drawn["code"] == pytest.approx(drawn["books"], abs=2)


def test_a_run_that_diverged_is_counted_and_too_few_are_refused(inputs, tmp_path):
    trained_before(inputs, tmp_path, broken=[("code", 0)])
    with pytest.raises(DataError, match="the mix code has 3 runs"):
        choose(inputs, tmp_path)
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert ledger["dropped"]["diverged"]["count"] == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mixes": {"one": {"code": 1.0}}}, "mixes: found 1, expected two or more"),
        ({"mixes": {"a/b": {"code": 1.0}, "b": {"books": 1.0}}}, "found the name 'a/b'"),
        ({"budgets": ["6e9", "1.2e10"]}, "budgets: found 2"),
        ({"mixes": {"a": {"cod": 1.0}, "b": {"books": 1.0}}}, "did you mean 'code'"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(inputs, tmp_path, changed, message):
    with pytest.raises(SettingsError, match=message):
        choose(inputs, tmp_path, **changed)


@pytest.mark.slow
def test_mixes_are_trained_and_trained_again_only_where_they_were_not(inputs, tmp_path):
    settings = {"budgets": ["1e9", "1.5e9", "2e9", "3e9"], "target": "1e10", "loop": {"device": "cpu", "dtype": "float32"}}
    summary = choose(inputs, tmp_path, **settings)
    table = (tmp_path / "mixes.csv").read_bytes()
    found = json.loads((tmp_path / "mixes.json").read_text())["mixes"]
    assert all(0 < source["loss"] < np.log(300) for mix in found.values() for source in mix["losses"].values())
    assert summary["runs"] == 8
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("mixes/*/runs/*/row_losses.npy")}
    choose(inputs, tmp_path, **settings)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "mixes.csv").read_bytes() == table
