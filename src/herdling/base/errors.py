"""Every exception that herdling raises on purpose, as one tree.

    HerdlingError                  anything a user can meet and mend
    ├── SettingsError              a recipe or option says something we cannot accept
    ├── DataError                  a text, row or dialog is not what it claims to be
    ├── TokenizerError             a tokenizer file or request is wrong
    ├── FormatError                a chat or model format cannot express what was asked
    ├── ModelError                 weights, shapes or a config do not fit together
    ├── CheckpointError            saved training state is missing, damaged or of another run
    ├── LineageError               artifacts do not belong together (other tokenizer, template, settings)
    ├── LockedError                another process works in this folder
    ├── TrainingError              training itself went wrong (not a number, loss spike, nothing to learn from)
    ├── RemoteError                a server that we asked does not answer, or not as it should
    ├── StorageError               the disk is full or refuses
    ├── Refused                    what an annotator sent cannot be accepted; its `reason` names why
    ├── Stopped                    the user asked to stop; all is saved, the same command goes on (exit code 130)
    └── MissingExtraError          an optional library is not installed

A message is one line: where, what was found, what is accepted, what to do next. Exit codes: 1 for all of these, 2 for a wrong command line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HerdlingError(Exception):
    """Anything that a user can meet and mend. `next_command`, when given, is what to type next."""

    def __init__(self, message: str, *, next_command: str | None = None) -> None:
        super().__init__(message)
        self.next_command = next_command


class SettingsError(HerdlingError):
    """A recipe or option says something that we cannot accept."""


class DataError(HerdlingError):
    """A text, row or dialog is not what it claims to be."""


class TokenizerError(HerdlingError):
    """A tokenizer file or request is wrong."""


class FormatError(HerdlingError):
    """A chat or model format cannot express what was asked."""


class ModelError(HerdlingError):
    """Weights, shapes or a config do not fit together."""


class CheckpointError(HerdlingError):
    """Saved training state is missing, damaged or of another run."""


class LineageError(HerdlingError):
    """Artifacts do not belong together."""


class LockedError(HerdlingError):
    """Another process works in this folder."""


class TrainingError(HerdlingError):
    """Training itself went wrong."""


class RemoteError(HerdlingError):
    """A server that we asked does not answer, or not as it should."""


class StorageError(HerdlingError):
    """The disk is full or refuses."""


class Refused(HerdlingError):
    """What an annotator or admin sent cannot be accepted; nothing that was stored changes. `reason` names why, in a few fixed words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class Stopped(HerdlingError):
    """The user asked to stop: all is saved, and the same command goes on."""


class MissingExtraError(HerdlingError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        command = f"pip install 'herdling[{extra}]'"
        super().__init__(f"{purpose} needs the library {library}, which is not installed. Install it with: {command}", next_command=command)


def did_you_mean(found: str, accepted: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest accepted name, or an empty string."""
    nearest = get_close_matches(found, list(accepted), n=1, cutoff=0.6)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
