from __future__ import annotations

import json
from pathlib import Path

import torch

from herdling.train.config import LoopConfig
from herdling.train.start import settle_device


def test_a_resumed_run_keeps_the_precision_it_began_with_whatever_is_faster_now(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        began = settle_device(LoopConfig(device="cpu"), tmp_path)
        record = tmp_path / "device.json"
        held = json.loads(record.read_text())
        assert held == {"device": "cpu", "dtype": str(began.dtype).removeprefix("torch."), "matmul_precision": began.matmul_precision}
        # As if the other choice had been the faster one when the run began.
        other = {"device": "cpu", "dtype": "float32" if held["dtype"] == "bfloat16" else "bfloat16", "matmul_precision": "medium"}
        record.write_text(json.dumps(other))
        resumed = settle_device(LoopConfig(device="cpu"), tmp_path)
        assert resumed.dtype == getattr(torch, other["dtype"])
        assert resumed.matmul_precision == torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
