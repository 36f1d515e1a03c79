"""What answers a dialog, wherever it runs: a model of ours in this process, or a server elsewhere, behind one protocol.

`name` is what people call it, `fingerprint` what its weights are known by: names may be reused, fingerprints are not. Starts without torch: the weights of a
folder are read by the first call that needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from herdling.generate.fingerprint import model_fingerprint
from herdling.types import Completion, Dialog, Sampling

__all__ = ["Generator", "LazyModel", "model_fingerprint", "open_generator"]


class Generator(Protocol):
    """Whatever can give an assistant's next message. `LoadedModel`, `LazyModel` and `RemoteModel` are such."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def fingerprint(self) -> str:
        """What its weights are known by."""

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Return the assistant's next message of each dialog, with one sampling for all or one each."""


class LazyModel:
    """A model on disk that is loaded by the first call that needs it, and once, whichever thread calls."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.fingerprint = model_fingerprint(path)
        self._lock = Lock()
        self._loaded: Generator | None = None

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Return the assistant's next message of each dialog; the completions bear this name and fingerprint.

        Raises:
            HerdlingError: the model cannot be loaded, is a base model, or a dialog is longer than its context.
        """
        with self._lock:
            if self._loaded is None:
                from herdling.generate.loaded import load

                loaded = load(self.path)
                loaded.name, loaded.fingerprint = self.name, self.fingerprint
                self._loaded = loaded
            return self._loaded.chat_batch(dialogs, sampling)


def open_generator(name: str, place: str, *, api_key: str | None = None) -> Generator:
    """Return the generator at a place: `http(s)://...` is an OpenAI-compatible server (`#model` names one of its models), anything else a path.

    Raises:
        ModelError: no model at the path.
        RemoteError: the server does not answer, or does not say which of its models is meant.
    """
    if place.startswith(("http://", "https://")):
        from herdling.generate.remote import connect  # needs httpx, of the extra `serve`

        return connect(name, place, api_key=api_key)
    return LazyModel(name, Path(place))
