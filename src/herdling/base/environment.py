"""The environment variables that herdling reads, all of them here; what they say goes on as arguments.

HERDLING_TRACEBACK     set: a failure shows Python's traceback, for those who mend herdling
HERDLING_API_KEY       the key for servers that answers are asked of
HERDLING_MACHINE       the file with what was measured of this machine, or `off`: then nothing is read and nothing is written
CUDA_VISIBLE_DEVICES   CUDA's own: empty or -1 hides all GPUs
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def wants_traceback() -> bool:
    """Say whether a failure should show its traceback."""
    return bool(os.environ.get("HERDLING_TRACEBACK"))


def api_key() -> str | None:
    """Return the key for other servers, if there is one."""
    return os.environ.get("HERDLING_API_KEY")


def machine_file() -> Path | None:
    """Return where measurements of this machine are kept: in the user's cache, by the habits of the system. None where it is turned off."""
    named = os.environ.get("HERDLING_MACHINE")
    if named:
        return None if named.lower() == "off" else Path(named).expanduser()
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "herdling" / "machine.json"


def hides_gpus() -> bool:
    """Say whether CUDA was told to see no GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
