"""The probes choose by error first, and a process is set up as they say."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from herdling.base.errors import ModelError
from herdling.model.precision import float32_precision, matrix_peak, prepare_device


@pytest.fixture(autouse=True)
def _restored():
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def test_the_chosen_precision_of_float32_products_is_that_of_float32():
    torch.set_float32_matmul_precision(float32_precision())
    x, weight = torch.randn(300, 400), torch.randn(200, 400)
    exact = x.double() @ weight.double().T
    assert ((x @ weight.T) - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_probe_leaves_the_process_as_it_was():
    torch.set_float32_matmul_precision("high")
    float32_precision.cache_clear()
    float32_precision()
    assert torch.get_float32_matmul_precision() == "high"


def test_fresh_processes_choose_alike():
    """A choice by near-equal speeds would give the same recipe other bits at each start."""
    code = "import torch; torch.set_num_threads(1); from herdling.model.precision import *; print(float32_precision(), prepare_device().dtype)"
    assert len({subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(4)}) == 1


def test_processes_side_by_side_keep_to_their_shares():
    """A process that prepared all cores for itself would wait for its neighbour at every product."""
    code = "from herdling.model.precision import *; n = num_cores(); print(take_share(n - 1, n), prepare_device('cpu', 'float32').threads, num_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["1", "1", "1"]


def test_a_process_is_set_up_as_asked():
    ready = prepare_device("cpu", "float32", threads=1)
    assert (ready.device.type, ready.dtype, ready.threads) == ("cpu", torch.float32, 1)
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == ready.matmul_precision


def test_a_device_that_is_not_here_is_named():
    missing = next(name for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if not there)
    with pytest.raises(ModelError, match=f"'{missing}' is not on this machine; accepted here: auto"):
        prepare_device(missing)


def test_the_measured_peak_is_a_rate_of_this_planet():
    assert 1e8 < matrix_peak(torch.float32, size=256) < 1e16
