import json
import re
import resource
import time

import pytest
import torch

from herdling.base.errors import CheckpointError, StorageError
from herdling.checkpoint.training import Checkpoints, damage


def tensors(seed, size=2000):
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights.a": torch.randn(size, 3, generator=generator),
        "weights.b": torch.randn(7, generator=generator).bfloat16(),
        "step.a": torch.tensor(float(seed)),
        "random.cpu": torch.randint(0, 256, (50,), dtype=torch.uint8, generator=generator),
    }


def saved(folder, *steps, **options):
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, tensors(step), {"step": step, "seconds": step / 3})
    checkpoints.wait()
    return checkpoints


def assert_restores(checkpoints, step):
    held = tensors(999)
    assert checkpoints.restore(held) == {"step": step, "seconds": step / 3}
    assert all(torch.equal(tensor, tensors(step)[name]) for name, tensor in held.items())


def data_file(folder, step):
    return next((folder / f"step-{step:08d}").glob("*.distcp"))


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    saved(tmp_path, 10, 20)
    assert_restores(Checkpoints(tmp_path), 20)


def test_no_checkpoint_is_no_error(tmp_path):
    assert Checkpoints(tmp_path / "nothing").restore(tensors(0)) is None


def test_later_changes_of_the_tensors_do_not_reach_the_disk(tmp_path):
    live = tensors(5, size=200_000)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, live, {"step": 5, "seconds": 5 / 3})
    for tensor in live.values():
        tensor.zero_()
    checkpoints.wait()
    held = tensors(0, size=200_000)
    checkpoints.restore(held)
    assert torch.equal(held["weights.a"], tensors(5, size=200_000)["weights.a"])


def test_only_the_newest_stay(tmp_path):
    assert saved(tmp_path, 1, 2, 3, 4, keep=2).steps() == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def flip_a_bit(folder):
    path = data_file(folder, 20)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(folder):
    path = data_file(folder, 20)
    path.write_bytes(path.read_bytes()[:-100])


def damage_facts(folder):
    (folder / "step-00000020" / "state.json").write_text('{"format": 1, "fa')


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (flip_a_bit, r"bytes of .*distcp changed"),
        (cut_short, r"distcp has [\d,]+ bytes, written were"),
        (damage_facts, "state.json cannot be read"),
        (lambda folder: data_file(folder, 20).unlink(), "distcp is missing"),
        (lambda folder: (folder / "step-00000020" / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / "step-00000020" / ".metadata").unlink(), ".metadata is missing"),
    ],
)
def test_a_damaged_newest_is_passed_over_aloud(tmp_path, harm, words):
    saved(tmp_path, 10, 20)
    harm(tmp_path)
    said = []
    assert_restores(Checkpoints(tmp_path, say=said.append), 10)
    (line,) = said
    assert "trying the one before, of step 10" in line
    assert re.search(words, line)


def test_all_damaged_is_an_error_and_not_a_silent_start_from_nothing(tmp_path):
    saved(tmp_path, 10, 20)
    for step in (10, 20):
        data_file(tmp_path, step).unlink()
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints are damaged. Remove that folder"):
        Checkpoints(tmp_path).restore(tensors(0))


def test_tensors_of_another_model_are_refused(tmp_path):
    saved(tmp_path, 10)
    other = tensors(0)
    other["weights.a"] = torch.zeros(5, 3)
    with pytest.raises(CheckpointError, match=r"weights.a is \(2000, 3\) there and \(5, 3\) here"):
        Checkpoints(tmp_path).restore(other)


def test_a_write_that_was_cut_off_is_not_seen(tmp_path):
    saved(tmp_path, 10)
    partial = tmp_path / ".partial-step-00000020"
    partial.mkdir()
    (partial / "__0_0.distcp").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path)
    assert_restores(checkpoints, 10)
    checkpoints.save(20, tensors(20), {"step": 20, "seconds": 20 / 3})
    checkpoints.wait()
    assert_restores(checkpoints, 20)
    assert not partial.exists()


@pytest.mark.parametrize("limit", [1_000_000, 30_000])
def test_a_full_disk_is_told_and_what_was_saved_before_stays_whole(tmp_path, limit):
    checkpoints = saved(tmp_path, 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to let a file grow past this, as a full disk would.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        checkpoints.save(20, tensors(20, size=200_000), {"step": 20, "seconds": 0.0})
        with pytest.raises(StorageError, match="free some space and run the same command again"):
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
    assert_restores(checkpoints, 10)
    checkpoints.save(30, tensors(30), {"step": 30, "seconds": 10.0})
    checkpoints.wait()
    assert_restores(checkpoints, 30)


def test_saving_holds_up_training_for_a_copy_only(tmp_path):
    live = {f"weights.{index}": torch.randn(13_000, 100) for index in range(3)}  # a model of 1.3M weights with its moments
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, live, {})
    checkpoints.wait()
    started = time.perf_counter()
    checkpoints.save(2, live, {})
    blocked = time.perf_counter() - started
    checkpoints.wait()
    assert blocked < 0.05
    assert damage(tmp_path / "step-00000002") is None


def test_the_facts_are_readable_json(tmp_path):
    saved(tmp_path, 10)
    record = json.loads((tmp_path / "step-00000010" / "state.json").read_text())
    assert record["facts"] == {"step": 10, "seconds": 10 / 3}
    assert set(record["files"]) == {".metadata", "__0_0.distcp"}
