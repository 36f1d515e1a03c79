"""A training batch as a reader can check it: every token as text, coloured by its document, marked where it is supervised. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from herdling.data.first_rows import COLUMNS, Rows

if TYPE_CHECKING:
    from herdling.tokenizer.base import Tokenizer

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


def decoded_rows(rows: Rows, tokenizer: Tokenizer) -> list[list[ShownToken]]:
    """Return for each row its tokens without the padding.

    `labels[t]` is the token after position t, so token t is supervised where `loss_mask[t - 1]` is True. A label that is no input (the last of a row) is
    added at the end where it is supervised.
    """
    decoded = []
    for ids, labels, mask, documents in zip(*(rows[name] for name in COLUMNS), strict=True):
        wanted = [0, *mask[:-1]]
        shown = [
            ShownToken(id=token, text=tokenizer.token_text(token), document=document, supervised=bool(supervised))
            for token, document, supervised in zip(ids, documents, wanted, strict=True)
            if document != PADDING
        ]
        if mask[-1]:
            shown.append(ShownToken(id=labels[-1], text=tokenizer.token_text(labels[-1]), document=documents[-1], supervised=True))
        decoded.append(shown)
    return decoded


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
