"""The rows that an artifact was trained on, for `herdling show --batch`: those that the stage kept, or the first of a tokens artifact. Loads the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from herdling.base.artifact import Artifact, is_artifact, read_artifact
from herdling.base.errors import DataError, LineageError
from herdling.data.first_rows import Rows, plain_rows, read_first_rows

if TYPE_CHECKING:
    from herdling.tokenizer import Tokenizer


def first_rows(artifact: Artifact) -> tuple[Rows, Tokenizer]:
    """Return the first rows that an artifact was trained on (of tokens: would be), and the tokenizer that reads them.

    Raises:
        DataError: no rows of tokens are behind this artifact.
        LineageError: the tokenizer that made the tokens is gone.
    """
    from herdling.tokenizer import load_tokenizer

    if artifact.kind == "tokens":
        return _tokens_rows(artifact), load_tokenizer(_parent_of_kind(artifact, "tokenizer"))
    return read_first_rows(artifact.folder), load_tokenizer(artifact.folder)


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


def _tokens_rows(artifact: Artifact, sequence_length: int = 256) -> Rows:
    from herdling.data.packing import DocumentRows
    from herdling.data.token_shards import TokenShards

    folder = min(artifact.folder.glob("*.train"), default=None)
    if folder is None:
        raise DataError(f"{artifact.folder}: holds no tokens to train on")
    rows = DocumentRows(TokenShards(folder), sequence_length=sequence_length)
    return plain_rows(rows.rows(0, min(4, rows.num_rows)))
