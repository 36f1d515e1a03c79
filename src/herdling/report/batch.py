"""A training batch as a reader can check it: every token as text, coloured by its document, marked where it is supervised.

The rows are made by the very code that training uses: a training stage offers them as `rows(run)`, a tokens artifact is packed as for validation. What is
shown is what was trained on. Costs loading the tokenizer, and torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from herdling.base.artifact import Artifact, is_artifact, read_artifact
from herdling.base.errors import DataError, LineageError

if TYPE_CHECKING:
    from herdling.tokenizer.base import Tokenizer
    from herdling.types import Batch

# One background for each document of a row, in turn.
DOCUMENT_STYLES = ("on grey11", "on grey23")
PADDING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToken:
    """One position of a row. `supervised`: some earlier position was trained to say this token."""

    id: int
    text: str
    document: int
    supervised: bool


def decoded_rows(batch: Batch, tokenizer: Tokenizer) -> list[list[ShownToken]]:
    """Return for each row its tokens without the padding.

    `labels[t]` is the token after position t, so token t is supervised where `loss_mask[t - 1]` is True. A label that is no input (the last of a row) is
    added at the end where it is supervised.
    """
    rows = []
    for ids, labels, mask, documents in zip(*(tensor.tolist() for tensor in (batch.input_ids, batch.labels, batch.loss_mask, batch.document_ids)), strict=True):
        wanted = [False, *mask[:-1]]
        shown = [
            ShownToken(id=token, text=tokenizer.token_text(token), document=document, supervised=supervised)
            for token, document, supervised in zip(ids, documents, wanted, strict=True)
            if document != PADDING
        ]
        if mask[-1]:
            shown.append(ShownToken(id=labels[-1], text=tokenizer.token_text(labels[-1]), document=documents[-1], supervised=True))
        rows.append(shown)
    return rows


def draw_row(row: Sequence[ShownToken], number: int) -> Text:
    """Return one row as coloured text: bold green = supervised, dim = only read, the background changes with the document."""
    num_supervised, documents = sum(token.supervised for token in row), {token.document for token in row}
    text = Text(
        f"row {number}: {len(row):,} tokens, {num_supervised:,} supervised, {len(documents)} document{'s' if len(documents) != 1 else ''}\n", style="bold"
    )
    for token in row:
        style = "bold green" if token.supervised else "grey62 not bold"
        text.append(token.text.replace("\n", "⏎\n"), style=f"{style} {DOCUMENT_STYLES[token.document % len(DOCUMENT_STYLES)]}")
    return text.append("\n")


def first_batch(artifact: Artifact, stage: Any, num_rows: int) -> tuple[Batch, Tokenizer]:
    """Return the first rows that an artifact was (or would be) trained on, and the tokenizer that reads them.

    `stage` holds the settings that made the artifact.

    Raises:
        LineageError: what it was made from is gone.
        DataError: no rows of tokens are behind this kind of artifact.
    """
    from herdling.tokenizer import load_tokenizer

    if artifact.kind == "tokens":
        return _tokens_batch(artifact, num_rows), load_tokenizer(_parent_of_kind(artifact, "tokenizer"))
    if not hasattr(stage, "rows"):
        raise DataError(
            f"{artifact.folder}: a {artifact.kind} made by {artifact.manifest['kind']} was not trained on rows of tokens. Look at a model or at tokens"
        )
    from herdling.stages.registry import StageRun

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
