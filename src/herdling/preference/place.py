"""Where a run keeps what people judged: its database and its closed rounds, side by side in one folder of the run."""

from __future__ import annotations

from pathlib import Path


def preferences_of(run: Path) -> Path:
    """Return the folder of a run's preferences; each closed round is a folder in it."""
    return run / "preferences"


def store_url(run: Path) -> str:
    """Return the URL of a run's own database."""
    return f"sqlite:///{preferences_of(run) / 'preferences.db'}"
