"""What a model on disk is known by: equal weights have equal fingerprints, wherever they lie and whatever they are called.

Reads a manifest where there is one, else all the weights (a second or so a gigabyte). Needs no torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from herdling.base.artifact import file_fingerprint, is_artifact, model_in, read_artifact
from herdling.base.errors import ModelError


def model_fingerprint(path: Path) -> str:
    """Return what a model on disk is known by: its artifact's fingerprint, or else the digest of its weights files.

    Raises:
        ModelError: no model there.
        LineageError: a run's folder without a finished model.
    """
    if not path.exists():
        raise ModelError(f"{path}: is not there. A model is a Hugging Face folder, a run's folder, a llama2.c .bin file, or the http address of a server")
    if path.is_file():
        return file_fingerprint(path)
    folder = model_in(path)
    if is_artifact(folder):
        return read_artifact(folder).fingerprint
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder}: holds no *.safetensors, so it is no model folder")
    together = "".join(f"{file.name} {file_fingerprint(file)}\n" for file in weights)
    return hashlib.sha256(together.encode()).hexdigest()
