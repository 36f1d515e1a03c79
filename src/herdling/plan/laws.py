"""Laws of loss by name, as others fitted them, and laws that were fitted here, read from a file. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.base.units import format_count
from herdling.plan.scaling_law import ParametricLaw

CONSTANTS = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLaw:
    """A law, where it comes from, and the smallest model that it was fitted to (0: not known)."""

    name: str
    law: ParametricLaw
    origin: str
    smallest: float = 0.0

    def doubt(self, parameters: float) -> str:
        """Return a sentence where the law is asked about sizes below its own, else an empty text."""
        if parameters >= self.smallest:
            return ""
        return (
            f"the law {self.name} was fitted from {format_count(self.smallest)} parameters up, so its losses down here are extrapolated: compare, do not "
            "believe. One of your own text: the stage scaling_laws, then --law FOLDER"
        )


LAWS = MappingProxyType(
    {
        "chinchilla": NamedLaw(
            name="chinchilla",
            law=ParametricLaw(E=1.8172, A=477.84, B=2143.9, alpha=0.34731, beta=0.36717),
            origin="Hoffmann et al., 2022, refitted",  # the optimum of Besiroglu et al., 2024, notebook cell 18 (arXiv 2404.10102)
            smallest=44e6,
        ),
        "llama3": NamedLaw(
            name="llama3",
            law=ParametricLaw(E=0.60467, A=59.141, B=155.114, alpha=0.31001, beta=0.31364),
            origin="fitted to the points of Llama 3's figure 2; their loss is normalised",
            smallest=40e6,
        ),
    }
)
"""Name -> law."""


def find_law(name: str) -> NamedLaw:
    """Return the law of this name, or the parametric fit in a file that `herdling fit ... --json` wrote, or in the folder of a stage scaling_laws.

    Raises:
        SettingsError: neither a name nor a path.
        DataError: a file without the five constants.
    """
    if name in LAWS:
        return LAWS[name]
    path = Path(name).expanduser()
    path = path / "fit.json" if path.is_dir() else path
    if not path.is_file():
        raise SettingsError(f"--law {name}: no such law or file{did_you_mean(name, LAWS)}; accepted: {', '.join(LAWS)}, a fit.json, a folder with one")
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        found = found.get("parametric", found)
        law = ParametricLaw(**{constant: float(found[constant]) for constant in CONSTANTS})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: holds no parametric law ({error!r}); accepted: what `herdling fit isoflop FILE.csv --json` prints") from None
    if min(law.A, law.B, law.alpha, law.beta) <= 0:
        raise DataError(f"{path}: {law.as_dict()}: A, B, alpha and beta of a law are above 0")
    return NamedLaw(name=str(path), law=law, origin="fitted")
