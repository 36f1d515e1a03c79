import json
import shutil

import pytest
import torch

from herdling.base.artifact import file_digests
from herdling.base.decode import decode
from herdling.base.errors import SettingsError, Stopped
from herdling.base.records import read_jsonl
from herdling.checkpoint.huggingface import load_model
from herdling.stages.pretrain import Pretrain
from tests.stages.toy_training import LOOP, PRETRAIN, make_inputs, run_stage, run_stage_killed, stage_run


@pytest.fixture
def inputs(tmp_path):
    torch.set_num_threads(1)
    return make_inputs(tmp_path / "inputs")


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
