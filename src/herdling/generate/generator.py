"""What answers a dialog, wherever it runs: a model of ours in this process, or a server elsewhere, behind one protocol.

`name` is what people call it, `fingerprint` what its weights are known by: names may be reused, fingerprints are not. Starts without torch: the weights of a
folder are read by the first call that needs them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Protocol

from pydantic import Field

from herdling.base.decode import Volatile, settings
from herdling.base.errors import SettingsError
from herdling.generate.fingerprint import model_fingerprint
from herdling.types import Completion, Dialog, Sampling

__all__ = ["Generator", "LazyModel", "PolicyServerConfig", "ServerConfig", "model_fingerprint", "open_generator"]


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


@settings
class ServerConfig:
    """An OpenAI-compatible server (vLLM, SGLang, llama.cpp) that answers in place of this process."""

    url: str
    """Its address, such as `http://127.0.0.1:8000/v1`; `#model` behind it names one of several models."""
    api_key_env: Annotated[str | None, Volatile()] = None
    """Name of the environment variable that holds the server's key: the key itself stands in no recipe. Unset: none is sent."""
    weight_version: str | None = None
    """What it has to say of its weights with every answer (SGLang: `--weight-version`): the only way to tell that it runs the model that is meant. Unset:
    whatever it says first, and nothing else after that."""
    timeout_seconds: Annotated[float, Volatile(), Field(gt=0)] = 120.0
    """How long an answer may take before it is asked for again, and in the end given up."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"url: found {self.url!r}, expected the address of a server, such as http://127.0.0.1:8000/v1")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise SettingsError("api_key_env: is no name of an environment variable. Put the key into one, and its name here")

    def api_key(self) -> str | None:
        """Return the key. Raises `SettingsError` where the environment has no such variable."""
        if self.api_key_env is None:
            return None
        if not os.environ.get(self.api_key_env):
            raise SettingsError(f"api_key_env: the environment has no {self.api_key_env}. Set it: export {self.api_key_env}=...")
        return os.environ[self.api_key_env]

    def open(self, name: str) -> Generator:
        """Return the model that the server has now. Raises what `remote.connect` raises, and `SettingsError` where the key is missing."""
        from herdling.generate.remote import connect  # needs httpx, of the extra `serve`

        return connect(name, self.url, api_key=self.api_key(), timeout_seconds=self.timeout_seconds, weight_version=self.weight_version)


@settings
class PolicyServerConfig:
    """A server that samples from the policy while it is trained (SGLang, or what speaks as it does)."""

    server: ServerConfig
    """Where it is: its root, without `/v1`."""
    weights: Annotated[str, Volatile()]
    """A folder of this run alone, that this machine and the server both see under this path. Each version is written below it, and removed when the next one is
    loaded."""

    def __post_init__(self) -> None:
        if self.server.weight_version is not None:
            raise SettingsError("server.weight_version: the policy changes with every iteration, and its versions are named by the stage. Leave it out")


def open_generator(name: str, place: str, *, api_key: str | None = None) -> Generator:
    """Return the generator at a place: `http(s)://...` is an OpenAI-compatible server (`#model` names one of its models), anything else a path.

    Raises:
        ModelError: no model at the path.
        RemoteError: the server does not answer, or does not say which of its models is meant.
    """
    if place.startswith(("http://", "https://")):
        from herdling.generate.remote import connect

        return connect(name, place, api_key=api_key)
    return LazyModel(name, Path(place))
