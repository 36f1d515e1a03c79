"""What a machine reaches at its best, on the CPU; and what becomes of a GPU's measurements."""

from __future__ import annotations

from datetime import date

import pytest
import torch

from herdling.model.precision import Device
from herdling.plan.hardware import GPUS
from herdling.plan.step_time import StepShape
from herdling.train import calibrate as calibration
from herdling.train import ceilings as measured
from herdling.train.calibrate import ON_GPU, calibrate, job_of
from herdling.train.ceilings import exchange_rate, measure_ceilings, measured_gpu, product_rate
from herdling.train.rehearsal import small_llama
from tests.plan.made_machine import made_identity

CPU = Device(device=torch.device("cpu"), dtype=torch.float32, threads=1, matmul_precision="highest")
FOUND = {"product bfloat16 4096": 600e12, "product bfloat16 8192": 700e12, "product float32 4096": 50e12, "attention": 400e12, "memory": 3e12}


def test_a_cpu_has_ceilings_of_products_attention_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measured.PRODUCT_SIZES, "cpu", (64, 128))
    monkeypatch.setitem(measured.MEMORY_BYTES, "cpu", 2**20)
    found = measure_ceilings(CPU, tries=2)
    assert list(found) == ["product bfloat16 64", "product bfloat16 128", "product float32 64", "product float32 128", "attention", "memory"]
    assert all(1e6 < rate < 1e15 for rate in found.values())
    assert product_rate(found, "float32") == max(found["product float32 64"], found["product float32 128"])


def test_a_known_gpu_gets_what_was_measured_in_place_of_what_is_known() -> None:
    gpu = measured_gpu("NVIDIA H100 80GB HBM3", 79.0, {**FOUND, "exchange": 350e9})
    assert (gpu.name, gpu.matmul_tflops, gpu.attention_tflops, gpu.hbm_gb_per_s, gpu.link_gb_per_s) == ("h100", 700, 400, 3000, 350)
    assert (gpu.datasheet_tflops, gpu.dollars_per_hour) == (GPUS["h100"].datasheet_tflops, GPUS["h100"].dollars_per_hour)
    assert gpu.fast_attention_tflops is None  # the measured one is of whatever kernel runs here
    assert measured_gpu("NVIDIA H100 PCIe", 79.0, FOUND).link_gb_per_s == GPUS["h100"].link_gb_per_s


def test_an_unknown_gpu_is_what_was_measured() -> None:
    gpu = measured_gpu("Voodoo 9", 11.0, FOUND)
    assert (gpu.name, gpu.memory_gib, gpu.matmul_tflops) == ("Voodoo 9", 11.0, 700)
    assert gpu.datasheet_tflops > gpu.matmul_tflops


def test_calibrating_a_cpu_makes_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measured.PRODUCT_SIZES, "cpu", (64,))
    monkeypatch.setitem(measured.MEMORY_BYTES, "cpu", 2**20)
    monkeypatch.setattr(calibration, "SHORT", (small_llama(64, 1, vocab=64, tokens=64, length=32),))
    told: list[tuple[int, int]] = []
    machine = calibrate(made_identity(), CPU, today=date(2026, 11, 29), quick=True, tell=lambda *done: told.append(done))
    assert (machine.identity, machine.dtype, machine.date) == (made_identity(), "float32", "2026-11-29")
    assert machine.source == "what was measured here on 2026-11-29"
    assert machine.gpu is None
    assert "memory" in machine.ceilings
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("shape", ON_GPU)
def test_steps_on_a_gpu_are_jobs_of_the_planner(shape: StepShape) -> None:
    job, split = job_of(shape)
    assert job.tokens == shape.tokens
    assert split.num_gpus == 1
    assert split.micro_batches(job) == shape.num_micro_batches


@pytest.mark.slow
def test_two_processes_exchange() -> None:
    assert 1e6 < exchange_rate("cpu", 2, num_bytes=2**20, tries=2) < 1e13
