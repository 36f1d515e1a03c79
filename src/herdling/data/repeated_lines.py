"""Leave out lines that stand in the documents again and again: licence headers, menus, boilerplate (Llama 3, section 3.1.1; CCNet in Llama 1, section 2.1).

A model that reads more text meets more of such lines again, so they also bend a scaling law: held-out text that repeats training text grows easier with every
token read, whatever the model has learned. Streams; memory is about 100 bytes for each different line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from herdling.base.ledger import Ledger
from herdling.data.holdout import Split
from herdling.types import Document

MIN_CHARS = 12
"""A shorter line stays however often it stands there: `else:` and `return x` are syntax, not boilerplate."""
ONLY_REPEATED = "only repeated lines"


class RepeatedLines:
    """Counts every line of the documents that pass, indentation aside, and takes out those met more than `max_copies` times."""

    def __init__(self, max_copies: int) -> None:
        self.max_copies = max_copies
        self._copies: dict[bytes, int] = {}

    def cut(self, text: str) -> str:
        """Return the text without the lines that were met `max_copies` times before, in this text or an earlier one."""
        return "\n".join(line for line in text.split("\n") if self._is_fresh(line.strip()))

    def _is_fresh(self, line: str) -> bool:
        if len(line) < MIN_CHARS:
            return True
        digest = hashlib.blake2b(line.encode(errors="surrogatepass"), digest_size=8).digest()
        copies = self._copies.get(digest, 0)
        if copies == self.max_copies:
            return False
        self._copies[digest] = copies + 1
        return True


def without_repeated_lines(items: Iterable[tuple[Split, Document]], lines: RepeatedLines, ledger: Ledger) -> Iterator[tuple[Split, Document]]:
    """Yield the documents without the lines met too often; one of which no line is left is dropped. Counts the characters taken out.

    Both splits share one count, so with one copy no line of the held-out documents stands in training too.
    """
    for split, document in items:
        text = lines.cut(document.text)
        ledger.count("characters of repeated lines", len(document.text) - len(text))
        if text.strip():
            yield split, replace(document, text=text)
        else:
            ledger.drop(ONLY_REPEATED, document.id)
