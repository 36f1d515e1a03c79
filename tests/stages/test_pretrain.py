import json
import shutil

import pytest
import torch

from herdling.base.artifact import file_digests, write_json_atomic
from herdling.base.decode import decode
from herdling.base.errors import LineageError, SettingsError, Stopped
from herdling.base.progress import SilentProgress
from herdling.base.records import read_jsonl
from herdling.checkpoint.huggingface import load_model
from herdling.stages.pretrain import Pretrain
from tests.stages.toy_training import LOOP, PRETRAIN, make_inputs, run_stage, run_stage_killed, stage_run


@pytest.fixture
def inputs(tmp_path):
    torch.set_num_threads(1)
    return make_inputs(tmp_path / "inputs")


class Notes(SilentProgress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def digests(folder):
    return {name: entry["sha256"] for name, entry in file_digests(folder).items()}


def test_a_model_folder_comes_out_with_metrics_ledger_and_samples(tmp_path, inputs):
    summary = run_stage("pretrain", inputs, tmp_path / "model")
    lines = [line for _, line in read_jsonl(tmp_path / "model" / "metrics.jsonl")]
    train = [line for line in lines if line["split"] == "train"]
    assert len(train) == summary["steps"] == 15_000 // 512
    assert train[-1]["loss"] < train[0]["loss"] - 1
    validation = [line for line in lines if line["split"] == "validation"]
    assert {line["source"] for line in validation} == {"code", "books"}
    assert validation[-1]["bits_per_byte"] < validation[0]["bits_per_byte"]
    assert summary["bits_per_byte"].keys() == {"code", "books"}
    mixture = json.loads((tmp_path / "model" / "ledger.json").read_text())["counts"]["mixture"]
    assert sum(row["drawn_tokens"] for row in mixture) == pytest.approx(summary["tokens"])
    samples = [row for _, row in read_jsonl(tmp_path / "model" / "samples.jsonl")]
    assert len(samples) == 2
    assert all(row["prompt"] and isinstance(row["completion"], str) for row in samples)
    assert load_model(tmp_path / "model").config.num_parameters() == summary["parameters"]
    assert not (tmp_path / "model" / "checkpoints").exists()


def test_killed_at_random_points_it_leaves_the_same_files_bit_by_bit(tmp_path, inputs):
    run_stage("pretrain", inputs, tmp_path / "straight")
    killed = run_stage_killed("pretrain", inputs, tmp_path / "killed")
    assert killed >= 2
    assert digests(tmp_path / "killed") == digests(tmp_path / "straight")


def test_a_stop_is_clear_and_the_next_run_goes_on(tmp_path, inputs):
    run_stage("pretrain", inputs, tmp_path / "straight")
    asked = iter([False] * 5 + [True] * 99)
    stage = decode(Pretrain, {**PRETRAIN, "loop": LOOP}, "stages.pretrain")
    with pytest.raises(Stopped, match="after step 6 of 29"):
        stage.run(stage_run("pretrain", inputs, tmp_path / "stopped", stop_requested=lambda: next(asked)))
    run_stage("pretrain", inputs, tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(tmp_path / "straight")


def test_without_held_out_text_it_trains_and_validates_nothing(tmp_path, inputs):
    for source in ("code", "books"):
        shutil.rmtree(inputs / "tokens" / f"{source}.validation")
    assert "bits_per_byte" not in run_stage("pretrain", inputs, tmp_path / "model", num_tokens="2K")


CHOSEN = {"name": "mostly code", "weights": {"code": 0.85, "books": 0.15}, "loss": 2.1, "interval": [2.0, 2.2], "chance_best": 0.614}


def write_choice(inputs, **changed):
    (inputs / "chosen").mkdir()
    write_json_atomic(inputs / "chosen" / "mix.json", {**CHOSEN, "not_told_apart": [], "at": {"flops": 1e12}, **changed})


def test_a_chosen_mix_trains_the_same_bits_as_its_weights_written_out(tmp_path, inputs):
    write_choice(inputs)
    summary = run_stage("pretrain", inputs, tmp_path / "model", num_tokens="5K", mix="chosen")
    run_stage("pretrain", inputs, tmp_path / "written out", num_tokens="5K", sources=CHOSEN["weights"])
    kept = digests(tmp_path / "model")
    assert kept.pop("mix.json")
    assert kept == digests(tmp_path / "written out")
    assert json.loads((tmp_path / "model" / "mix.json").read_text())["weights"] == CHOSEN["weights"]
    assert (summary["mix"], summary["mix_weights"], summary["mix_chance_best"]) == ("mostly code", "code 0.85, books 0.15", 0.614)
    assert "mix_not_told_apart_from" not in summary


def test_rows_come_from_the_sources_as_the_chosen_mix_says(tmp_path, inputs):
    write_choice(inputs)
    run_stage("pretrain", inputs, tmp_path / "model", num_tokens="5K", mix="chosen")
    drawn = {row["source"]: row for row in json.loads((tmp_path / "model" / "ledger.json").read_text())["counts"]["mixture"]}
    assert {name: row["asked"] for name, row in drawn.items()} == pytest.approx(CHOSEN["weights"])
    num_rows = sum(row["drawn_tokens"] for row in drawn.values()) // 64
    assert num_rows == 5000 // 512 * 8
    assert {name: row["drawn_tokens"] / 64 for name, row in drawn.items()} == pytest.approx({"code": 0.85 * num_rows, "books": 0.15 * num_rows}, abs=1)


def test_a_choice_that_is_not_sure_and_a_mix_that_is_not_held_are_said(tmp_path, inputs):
    write_choice(inputs, not_told_apart=["even", "books"])
    progress = Notes()
    run = stage_run("pretrain", inputs, tmp_path / "model", progress=progress)
    decode(Pretrain, {**PRETRAIN, "loop": LOOP, "num_tokens": "5K", "mix": "chosen", "max_epochs": 2.0}, "stages.pretrain").run(run)
    assert run.summary["mix_not_told_apart_from"] == "even, books"
    assert "mix mostly code: its small runs do not tell it apart from even, books; its chance to be the best is 61%" in progress.lines
    assert "less of code than the mix asks for: max_epochs = 2 allows no more" in progress.lines


@pytest.mark.parametrize(
    ("chosen", "settings", "complaint"),
    [
        ({}, {"sources": {"code": 1.0}}, "stages.pretrain: found mix and sources"),
        ({"weights": {"cod": 1.0}}, {}, "stages.pretrain.mix.cod: no source is called 'cod' .did you mean 'code'"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(tmp_path, inputs, chosen, settings, complaint):
    write_choice(inputs, **chosen)
    with pytest.raises(SettingsError, match=complaint):
        run_stage("pretrain", inputs, tmp_path / "model", mix="chosen", **settings)


def test_an_artifact_without_a_chosen_mix_is_refused(tmp_path, inputs):
    (inputs / "chosen").mkdir()
    with pytest.raises(LineageError, match=r"holds no mix.json. Make the stage choose_mix again"):
        run_stage("pretrain", inputs, tmp_path / "model", mix="chosen")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sources": {"cod": 1.0}}, "stages.pretrain.sources.cod: no source is called 'cod' .did you mean 'code'"),
        ({"num_tokens": "5"}, "less than one batch"),
        ({"batch": "512@128"}, "rows of 128 tokens are longer than the model's context of 64"),
        ({"model": None, "size": "lama2-7b"}, "stages.pretrain.size: found 'lama2-7b' .did you mean 'llama2-7b'"),
        ({"num_tokens": "many"}, "stages.pretrain.num_tokens: found 'many', expected a count"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path, inputs, settings, complaint):
    with pytest.raises(SettingsError, match=complaint):
        run_stage("pretrain", inputs, tmp_path / "model", **settings)
