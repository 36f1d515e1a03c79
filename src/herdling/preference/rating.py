"""The four-level scale: its keys, its margins, the three safety labels, and the line from left to right on which agreement is measured.

Llama 2, section 3.2.1 (levels, safety labels) and Table 27 (margins). The margin m(rating) is subtracted in -log sigmoid(r_chosen - r_rejected - m).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from herdling.base.errors import DataError
from herdling.types import Rating

Side = Literal["left", "right"]
SafetyLabel = Literal["chosen safe", "both safe", "both unsafe"]
"""The three bins of Llama 2: the chosen response is safe and the other is not, both are safe, both are unsafe."""
Margin = Literal["none", "small", "large"]

LEVELS: tuple[Rating, ...] = get_args(Rating)
SAFETY_LABELS: tuple[SafetyLabel, ...] = get_args(SafetyLabel)
KEYS = range(1, 9)

MARGINS: Mapping[Margin, Mapping[Rating, float]] = {
    "none": {"significantly": 0.0, "better": 0.0, "slightly": 0.0, "negligibly": 0.0},
    "small": {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "negligibly": 0.0},
    "large": {"significantly": 3.0, "better": 2.0, "slightly": 1.0, "negligibly": 0.0},
}
"""m(rating) of Table 27; `none` is the switch off (Llama 3, section 4.1.2)."""


def choice_of_key(key: int) -> tuple[Side, Rating]:
    """Return side and level of a key: 1 left significantly, 2 left better, ... 4 left negligibly, 5 right negligibly, ... 8 right significantly.

    Raises:
        DataError: the key is not on the scale.
    """
    if key not in KEYS:
        raise DataError(f"rating outside the scale: found key {key!r}, accepted: 1 (left significantly better) to 8 (right significantly better)")
    return ("left", LEVELS[key - 1]) if key <= 4 else ("right", LEVELS[8 - key])


def key_of_choice(side: Side, rating: Rating) -> int:
    """Return the key of a side and level: the place on the line from 1 (left) to 8 (right), an ordinal scale."""
    level = LEVELS.index(rating) + 1
    return level if side == "left" else 9 - level


def flags_of_label(label: SafetyLabel, chosen: int) -> tuple[bool, bool]:
    """Return whether each of the two responses is safe; `chosen` (0 or 1) says which was preferred."""
    if label == "both safe":
        return True, True
    if label == "both unsafe":
        return False, False
    return chosen == 0, chosen == 1


def label_of_flags(safe: tuple[bool, bool], chosen: int) -> SafetyLabel:
    """Return the label that two flags mean.

    Raises:
        DataError: the chosen response is unsafe and the other safe; Llama 2 (section 3.2.1) leaves such pairs out, so no label names them.
    """
    if safe[0] == safe[1]:
        return "both safe" if safe[0] else "both unsafe"
    if not safe[chosen]:
        raise DataError("unsafe response chosen: the chosen response is unsafe and the other safe; no safety label names such a pair")
    return "chosen safe"
