"""The rows that an artifact was trained on, for `herdling show --batch`.

They are made by the very code that training used: a training stage offers them as `rows(run)`, a tokens artifact is packed as for validation. So what is shown
is what was trained on. Costs loading the tokenizer, and torch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herdling.base.artifact import Artifact, is_artifact, read_artifact
from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError
from herdling.stages.registry import StageRun, stage_class

if TYPE_CHECKING:
    from herdling.tokenizer.base import Tokenizer
    from herdling.types import Batch


def first_batch(artifact: Artifact, num_rows: int) -> tuple[Batch, Tokenizer]:
    """Return the first rows that an artifact was (or would be) trained on, and the tokenizer that reads them.

    Raises:
        LineageError: what it was made from is gone.
        DataError: no rows of tokens are behind this kind of artifact.
    """
    from herdling.tokenizer import load_tokenizer

    if artifact.kind == "tokens":
        return _tokens_batch(artifact, num_rows), load_tokenizer(_parent_of_kind(artifact, "tokenizer"))
    kind, where = artifact.manifest["kind"], str(artifact.folder)
    stage: Any = decode(stage_class(kind, where), artifact.manifest["settings"], where)
    if not hasattr(stage, "rows"):
        raise DataError(f"{artifact.folder}: a {artifact.kind} made by {kind} was not trained on rows of tokens. Look at a model or at tokens")
    inputs = parents(artifact)
    with tempfile.TemporaryDirectory() as scratch:
        known = {reference: read_artifact(path) for reference, path in inputs.items() if is_artifact(path)}
        run = StageRun(name=artifact.folder.name, folder=Path(scratch), seed=artifact.manifest["seed"], inputs=inputs, artifacts=known)
        source = stage.rows(run)
        return source.rows(0, min(num_rows, source.num_rows)), load_tokenizer(artifact.folder)


def parents(artifact: Artifact) -> dict[str, Path]:
    """Return reference -> folder or file that an artifact was made from; a run that was moved is found beside the artifact."""
    found = {}
    for reference, recorded in artifact.manifest.get("parents", {}).items():
        path = Path(recorded) if Path(recorded).exists() else artifact.folder.parent / Path(recorded).name
        if not path.exists():
            raise LineageError(f"{artifact.folder}: was made from {recorded} ({reference}), which is gone")
        found[reference] = path
    return found


def _parent_of_kind(artifact: Artifact, kind: str) -> Path:
    for path in parents(artifact).values():
        if is_artifact(path) and read_artifact(path).kind == kind:
            return path
    raise LineageError(f"{artifact.folder}: names no {kind} that it was made with")


def _tokens_batch(artifact: Artifact, num_rows: int, sequence_length: int = 256) -> Batch:
    from herdling.data.packing import DocumentRows
    from herdling.data.token_shards import TokenShards

    folder = min(artifact.folder.glob("*.train"), default=None)
    if folder is None:
        raise DataError(f"{artifact.folder}: holds no tokens to train on")
    rows = DocumentRows(TokenShards(folder), sequence_length=sequence_length)
    return rows.rows(0, min(num_rows, rows.num_rows))
