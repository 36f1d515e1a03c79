from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from herdling.base.artifact import beside, file_digests, read_artifact, write_json_atomic
from herdling.base.errors import LineageError


def test_a_failure_while_writing_leaves_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json_atomic(path, {"old": 1})
    with pytest.raises(TypeError), beside(path) as partial:
        partial.write_text("half")
        partial.write_bytes(None)  # type: ignore[arg-type]
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    # A limit on the size of files gives the same kind of failure as a full disk, without needing one.
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from herdling.base.artifact import write_bytes_atomic; from herdling.base.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))\n"
        "try: write_bytes_atomic(Path(sys.argv[1]), b'x' * 100000)\n"
        "except StorageError as error: print(error); sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "cannot write" in done.stdout
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]


def test_digests_leave_out_the_records_of_how_a_run_went(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "metrics.jsonl").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "state").write_text("s")
    assert list(file_digests(tmp_path)) == ["a.txt"]


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match="is no finished artifact"):
        read_artifact(tmp_path)
