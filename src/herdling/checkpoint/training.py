"""Training state on disk: saved beside the training, whole or not at all, checked when read.

Layout, one folder a checkpoint, the last `keep` of them:

    checkpoints/step-00000400/     .metadata, *.distcp    tensors, in the format of torch.distributed.checkpoint
                                   state.json             step and other plain facts, and the SHA-256 of every file beside it

`save` copies the tensors into a buffer that is made once (5 ms for 2.2M weights with their moments) and returns; a thread writes, syncs and renames. A kill at
any moment leaves whole checkpoints only. `restore` takes the newest that is undamaged, and says which it had to pass over. Model folders for use by others are
written by `checkpoint/huggingface.py`; this is only what a run needs to go on.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from herdling.base.artifact import file_fingerprint, remove, storage_error, write_json_atomic
from herdling.base.errors import CheckpointError

FACTS = "state.json"
_NAME = re.compile(r"^step-(\d{8,})$")


class Checkpoints:
    """The checkpoints of one run. `say` is told, in one line, about each damaged one that is passed over."""

    def __init__(self, folder: Path, *, keep: int = 2, say: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder
        self.keep = max(1, keep)
        self.say = say
        self._buffer: dict[str, Tensor] = {}
        self._writer: Thread | None = None
        self._failure: BaseException | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Copy the tensors now, write them in the background. Waits for the write before this one.

        Raises:
            StorageError: the write before this one met a full disk; the checkpoints before it are whole.
        """
        self.wait()
        for name, tensor in tensors.items():
            held = self._buffer.get(name)
            if held is None or held.shape != tensor.shape:
                held = self._buffer[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
            held.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.current_stream().synchronize()
        _quiet_torch()
        # Not a daemon: a clean exit of the interpreter lets the write finish.
        self._writer = Thread(target=self._write_safely, args=(step, dict(facts)), name=f"checkpoint-{step}")
        self._writer.start()

    def wait(self) -> None:
        """Wait until all is on disk. Raises what went wrong while writing (`StorageError` for a full disk)."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def restore(self, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Load the newest undamaged checkpoint into `tensors`, in place, and return its facts; None when there is no checkpoint at all.

        Raises:
            CheckpointError: every checkpoint is damaged, or the newest whole one holds other tensors.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self._path(step)
            fault = damage(path)
            if fault is None:
                facts = json.loads((path / FACTS).read_text(encoding="utf-8"))["facts"]
                _load(path, tensors)
                return dict(facts)
            older = [other for other in steps if other < step]
            self.say(f"{path}: damaged ({fault}); " + (f"trying the one before, of step {older[-1]:,}" if older else "and there is none before it"))
        if steps:
            raise CheckpointError(f"{self.folder}: all {len(steps)} checkpoints are damaged. Remove that folder to train from the start")
        return None

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.match(path.name)))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _write_safely(self, step: int, facts: dict[str, Any]) -> None:
        try:
            self._write(self._path(step), facts)
        except BaseException as error:  # torch's CheckpointException is no Exception; told by the next `wait`
            # torch wraps what the disk said; a full one must be known as such.
            cause = _disk_error(error)
            self._failure = storage_error(self._path(step), cause) if cause is not None else error

    def _write(self, path: Path, facts: dict[str, Any]) -> None:
        partial = path.with_name(f".partial-{path.name}")
        try:
            remove(partial)
            partial.mkdir(parents=True)
            save(self._buffer, storage_writer=FileSystemWriter(partial, single_file_per_rank=True, thread_count=1), no_dist=True)
            files = {file.name: {"bytes": file.stat().st_size, "sha256": file_fingerprint(file)} for file in sorted(partial.iterdir())}
            write_json_atomic(partial / FACTS, {"format": 1, "facts": facts, "files": files})
            remove(path)
            partial.rename(path)
            _sync_folder(path.parent)
        except BaseException:
            remove(partial)
            raise
        for old in self.steps()[: -self.keep]:
            remove(self._path(old))


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint, or None. Reads every byte: 0.5 GB a second."""
    try:
        files = json.loads((path / FACTS).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"{FACTS} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{FACTS} cannot be read"
    for name, recorded in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != recorded["bytes"]:
            return f"{name} has {file.stat().st_size:,} bytes, written were {recorded['bytes']:,}"
        if file_fingerprint(file) != recorded["sha256"]:
            return f"bytes of {name} changed since it was written"
    return None


def _load(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Load into the given tensors, after checking that they are the ones that were saved."""
    reader = FileSystemReader(path)
    saved = {name: tuple(entry.size) for name, entry in reader.read_metadata().state_dict_metadata.items() if hasattr(entry, "size")}
    wanted = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{path}: is of another model: {name} is {saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
            f" ({len(differing)} tensors differ). Remove {path.parent} to train from the start"
        )
    loaded = {name: torch.empty_like(tensor, device="cpu") for name, tensor in tensors.items()}
    _quiet_torch()
    load(loaded, storage_reader=reader, no_dist=True)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(loaded[name])


def _quiet_torch() -> None:
    """Keep torch from warning, at each save and load, that there is one process only, and from making two log records a tensor that nobody reads.

    Call from the main thread: filters of warnings are global.
    """
    logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def _disk_error(error: BaseException | None) -> OSError | None:
    """Find the disk's own words in what torch raised around them."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError):
            return error
        seen.append(error)
        failures = getattr(error, "failures", None)
        inner = next(iter(failures.values()))[0] if failures else None
        error = inner or error.__cause__ or error.__context__
    return None


def _sync_folder(folder: Path) -> None:
    """Ask the system to put a rename on disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
