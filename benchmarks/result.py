"""How every benchmark ends: its result as one JSON line on stdout, and as an indented file where one is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def give_result(result: Mapping[str, Any], path: Path | None) -> None:
    """Print a result as one line; write it to `path` too, if there is one, in a form that shows in a diff what has changed."""
    print(json.dumps(result))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
