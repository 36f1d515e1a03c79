"""Counts and durations as people write them, both ways: `4M`, `252B`, `128K`, `2%`, `1h 05m`."""

from __future__ import annotations

import re

from herdling.base.errors import SettingsError

_MULTIPLIERS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"^\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([kmbt]?)\s*$", re.IGNORECASE)


def parse_count(text: str | int, *, where: str) -> int:
    """Read a count such as `4096`, `4M`, `1.4T` or `3e6`. Raises `SettingsError` when it is no whole number."""
    if isinstance(text, int):
        return text
    match = _COUNT.match(text)
    if match is None:
        raise SettingsError(f"{where}: found {text!r}, expected a count such as 4096, 512K, 4M, 2B or 1.4T")
    value = float(match[1].replace("_", "").replace(",", "")) * _MULTIPLIERS[match[2].lower()]
    if abs(value - round(value)) > 1e-6 * max(1.0, value):
        raise SettingsError(f"{where}: {text!r} is {value}, not a whole number")
    return round(value)


def parse_flops(text: str, where: str) -> float:
    """Read FLOPs such as `3e12`. Raises `SettingsError` for anything that is no number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"{where}: found {text!r}, expected FLOPs above 0, such as '3e12'")
    return value


def format_count(value: float) -> str:
    """Write a count with three significant digits and a suffix: 1234567 -> `1.23M`."""
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def format_seconds(seconds: float) -> str:
    """Write a duration: `0.8s`, `42s`, `3m 07s`, `1h 05m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def format_bytes(count: float) -> str:
    """Write a size in binary units: 3221225472 -> `3.00 GiB`."""
    for suffix, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.2f} {suffix}"
    return f"{count:.0f} B"
