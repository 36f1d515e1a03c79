import json
import math

import torch

from herdling.train.metrics import Meter, MetricsLog, peak_flops


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_was_written_after_the_restored_step_is_cut_and_so_is_half_a_line(tmp_path):
    log = MetricsLog(tmp_path, step=0)
    log.write([{"split": "train", "step": step, "loss": 1.0} for step in range(1, 8)])
    log.write([{"split": "validation", "step": 5, "source": "code", "bits_per_byte": 2.0}])
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"split": "train", "st')
    log = MetricsLog(tmp_path, step=5)
    log.write([{"split": "train", "step": 6, "loss": 0.5}])
    log.close()
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5, 5, 6]


def test_a_value_that_is_not_finite_is_null_in_json():
    meter = Meter(flops_per_token=None, peak=None)
    meter.add({"step": 1}, {"loss": torch.tensor(math.nan), "grad_norm": torch.tensor(2.0)}, num_tokens=10)
    (line,) = meter.flush()
    assert line["loss"] is None
    assert line["grad_norm"] == 2.0
    assert meter.flush() == []


def test_speed_leaves_out_what_happens_aside_and_mfu_is_not_guessed():
    clock = [0.0]
    meter = Meter(flops_per_token=100.0, peak=None, clock=lambda: clock[0])
    with meter.waiting():
        clock[0] += 1
    clock[0] += 3
    with meter.aside():
        clock[0] += 6
    meter.add({"step": 1}, {"loss": torch.tensor(1.0)}, num_tokens=400)
    (line,) = meter.flush()
    assert line["tokens_per_second"] == 100.0
    assert line["data_wait"] == 0.25
    assert line["mfu"] == "n/a"
    assert meter.summary()["tokens_per_second_with_validation"] == 40.0


def test_mfu_is_flops_done_over_flops_possible():
    clock = [0.0]
    meter = Meter(flops_per_token=100.0, peak=1e5, clock=lambda: clock[0])
    clock[0] += 2
    meter.add({"step": 1}, {"loss": torch.tensor(1.0)}, num_tokens=1000)
    assert meter.flush()[0]["mfu"] == 0.5


def test_the_peak_of_a_cpu_is_unknown():
    assert peak_flops(torch.device("cpu")) is None
