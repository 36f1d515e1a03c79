"""An artifact: a folder that one stage made, with a `manifest.json` that says from what, how and when.

Nothing is half there: files and folders are written beside and renamed. Every file's digest stands in the manifest, so a changed or damaged artifact is a
loud error where it is used, and so is a model beside a tokenizer that it was not trained with.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from herdling.base.errors import LineageError, StorageError

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
# Records of how a run went (times, speeds), not of what it made: two runs with equal results differ here.
DEVICE_RECORD = "device.json"
RECORDS = frozenset({MANIFEST, "metrics.jsonl", "tensorboard", "checkpoints", "stage.json", DEVICE_RECORD})


def text_fingerprint(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def value_fingerprint(value: Any) -> str:
    """Return the SHA-256 of plain data, independent of the order of keys."""
    return text_fingerprint(json.dumps(value, sort_keys=True, ensure_ascii=False))


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; rename it into place at the end, remove it on failure.

    Raises:
        StorageError: the disk is full or refuses; what stood at `path` before is untouched.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except OSError as error:
        remove(partial)
        raise storage_error(path, error) from error
    except BaseException:
        remove(partial)
        raise


def storage_error(path: Path, error: OSError) -> StorageError | OSError:
    """Turn a full or read-only disk into our error; anything else stays what it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        free = shutil.disk_usage(path.parent if path.parent.exists() else "/").free
        return StorageError(
            f"{path}: cannot write ({error.strerror}; {free / 2**20:,.0f} MiB free)."
            " What was saved before is untouched: free some space and run the same command again"
        )
    return error


def _sync(path: Path) -> None:
    """Ask the system to put a file on disk, so that a rename never points at missing bytes."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write bytes beside, then rename."""
    with beside(path) as partial:
        partial.write_bytes(data)


def write_text_atomic(path: Path, text: str) -> None:
    """Write text (UTF-8) beside, then rename."""
    write_bytes_atomic(path, text.encode())


def write_json_atomic(path: Path, value: Any) -> None:
    """Write plain data as indented JSON, beside, then rename."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {relative path: {bytes, sha256}} for what a stage made, without the records of how the run went."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not RECORDS & set(path.relative_to(folder).parts))
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_fingerprint(path)} for path in files}


def new_manifest(
    folder: Path,
    *,
    name: str,
    output: str,
    made_from: Mapping[str, Any],
    parents: Mapping[str, str],
    summary: Mapping[str, Any],
    seconds: float,
    tokenizer: str = "",
    chat_template: str = "",
) -> dict[str, Any]:
    """Return the manifest of what stands in `folder`, all files written. `made_from` is plain data with `kind`, `seed`, `settings` and `inputs`."""
    files = file_digests(folder)
    return {
        "format": MANIFEST_FORMAT,
        "name": name,
        "output": output,
        "status": "done",
        "key": value_fingerprint(made_from),
        **made_from,
        "fingerprint": value_fingerprint({path: entry["sha256"] for path, entry in files.items()}),
        "tokenizer": tokenizer,
        "chat_template": chat_template,
        "parents": dict(parents),
        "summary": dict(summary),
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "files": files,
    }


def code_version() -> dict[str, str]:
    """Return herdling's version, and its commit where it runs from a checkout."""
    here = Path(__file__).parent
    commit = ""
    if (here.parents[2] / ".git").exists():
        asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = asked.stdout.strip()
    return {"version": version("herdling"), "commit": commit}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What it is: data, tokenizer, tokens, model, comparisons, reward, samples, scaling_law, data_mix, evaluation, export, report."""
        return str(self.manifest["output"])

    @property
    def fingerprint(self) -> str:
        """The digest of its contents: equal contents have equal fingerprints, wherever and whenever they were made."""
        return str(self.manifest["fingerprint"])

    def verify(self) -> None:
        """Check every file against the manifest. Raises `LineageError` naming the first that is missing or changed."""
        for name, recorded in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                raise LineageError(f"{path}: is gone since {self.folder.name} was made")
            if path.stat().st_size != recorded["bytes"] or file_fingerprint(path) != recorded["sha256"]:
                raise LineageError(f"{path}: is not what {self.folder.name} wrote (its bytes changed since). Make it again with --force {self.folder.name}")


def read_artifact(folder: Path) -> Artifact:
    """Read a finished artifact's manifest. Raises `LineageError` when there is none, or one that we cannot read."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LineageError(f"{folder}: is no finished artifact of herdling (it has no {MANIFEST})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LineageError(f"{path}: is damaged ({error})") from None
    if manifest.get("format") != MANIFEST_FORMAT:
        raise LineageError(f"{path}: has manifest format {manifest.get('format')!r}, this version of herdling reads {MANIFEST_FORMAT}")
    return Artifact(folder, manifest)


def is_artifact(folder: Path) -> bool:
    """Say whether a finished artifact is here."""
    return (folder / MANIFEST).is_file()


def model_in(path: Path) -> Path:
    """Return the model folder that a path means: the path itself, or the newest model of a run's folder, one that can chat before one that cannot.

    Raises:
        LineageError: a run's folder that holds no finished model yet.
    """
    if not (path / "recipe.json").is_file():
        return path
    artifacts = [read_artifact(folder) for folder in path.iterdir() if is_artifact(folder)]
    models = [artifact for artifact in artifacts if artifact.kind in ("model", "export")]
    if not models:
        raise LineageError(f"{path}: holds no finished model yet. Run its recipe to the end first")
    return max(models, key=lambda model: (bool(model.manifest["chat_template"]), model.manifest["finished"], model.folder.name)).folder
