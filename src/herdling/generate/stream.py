"""Token ids to text while they come: only whole characters, and never a stop string nor a beginning of one."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from herdling.tokenizer.base import Tokenizer
from herdling.tokenizer.sentencepiece import ESCAPES, SentencePieceTokenizer


class TextStream:
    """The text of one answer as it grows: `push` each id, read what each push returns, `finish` once.

    Bytes that are no UTF-8 become U+FFFD as soon as that is certain. Text that could be the beginning of a stop string waits until it is known not to be.
    `text` is all that was returned so far; `stopped` says that a stop string came, after which nothing is returned any more.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), stop: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        self.text = ""
        self.stopped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._waiting = ""
        # SentencePiece writes a space before the first word of a text, which is not part of it: at the beginning of a text one space is dropped.
        special = set(tokenizer.special_ids.values())
        # Some of these models write a rare character as two (see ESCAPES): the first of the two waits for the second.
        self._escapes = ESCAPES if isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.rule == "escaped" else ()
        self._half_escape = ""
        self._drop_space = tokenizer.family == "llama2" and all(token in special for token in prompt_ids)

    def push(self, token_id: int) -> str:
        """Take the next id; return the text that is certain now (often none)."""
        return self._take(self._unescape(self._decoder.decode(self.tokenizer.token_bytes(token_id))))

    def finish(self) -> str:
        """Say that no more ids come; return what waited."""
        piece = self._take(self._unescape(self._decoder.decode(b"", final=True), final=True))
        rest, self._waiting = ("" if self.stopped else self._waiting), ""
        self.text += rest
        return piece + rest

    def _unescape(self, new: str, final: bool = False) -> str:
        if not self._escapes:
            return new
        new, self._half_escape = self._half_escape + new, ""
        if not final and new.endswith(self._escapes[0][0]):
            new, self._half_escape = new[:-1], new[-1]
        for character, stand_in in reversed(self._escapes):
            new = new.replace(stand_in, character)
        return new

    def _take(self, new: str) -> str:
        if self.stopped or not new:
            return ""
        if self._drop_space:
            new, self._drop_space = new.removeprefix(" "), False
        text = self._waiting + new
        # The stop string that is complete first ends the text, so that it does not matter how the text was cut into tokens.
        found = [(place + len(stop), place) for stop in self.stop if (place := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            piece, self._waiting = text[: min(found)[1]], ""
        else:
            safe = len(text) - self._possible_beginning(text)
            piece, self._waiting = text[:safe], text[safe:]
        self.text += piece
        return piece

    def _possible_beginning(self, text: str) -> int:
        """Return the length of the longest end of `text` that a stop string begins with."""
        longest = max((len(stop) for stop in self.stop), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self.stop):
                return size
        return 0
