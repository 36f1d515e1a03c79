"""Killed at any moment and run again, training ends with the same bits as if nothing had happened."""

import json

import pytest
import torch

from herdling.train.config import CheckpointConfig
from tests.killing import run_killed
from tests.train.tiny import TinyModel, tiny_loop

NUM_STEPS = 40


def train(folder, dtype):
    """Run in a process of its own: train to the end, saving as often as the disk allows, then leave the weights."""
    torch.set_num_threads(1)
    model = TinyModel()
    checkpoint = CheckpointConfig(every_seconds=0.0)
    validate = lambda: {"noise": float(model.out.weight.detach().float().norm())}  # noqa: E731
    tiny_loop(folder, num_steps=NUM_STEPS, model=model, dtype=dtype, checkpoint=checkpoint, validate=validate, validate_every=10).run()
    torch.save([weight.detach() for weight in model.parameters()], folder / "weights.pt")


def finished(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [{name: line.get(name) for name in ("split", "step", "tokens", "loss", "grad_norm", "lr", "source", "bits_per_byte")} for line in lines]
    return torch.load(folder / "weights.pt"), told


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_killed_at_random_points_training_ends_with_the_same_bits_and_metrics(tmp_path, dtype):
    folders = {name: tmp_path / name for name in ("straight", "killed")}
    for folder in folders.values():
        folder.mkdir()
    run_killed(train, (folders["straight"], dtype), folders["straight"] / "weights.pt", kills=0)
    num_kills = run_killed(train, (folders["killed"], dtype), folders["killed"] / "weights.pt", longest=0.5)
    weights, lines = finished(folders["killed"])
    expected, expected_lines = finished(folders["straight"])
    assert num_kills >= 2
    assert lines == expected_lines
    assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))
