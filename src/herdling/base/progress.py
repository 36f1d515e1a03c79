"""Live progress of a stage: what, how far, at what speed, how long still.

A stage says `begin(total, unit)`, then `update(done, loss=2.31)`. On a terminal that becomes one live line; elsewhere (a log file, CI) a plain line every few
seconds; in tests nothing. Everything goes to stderr: stdout belongs to results.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from herdling.base.units import format_count, format_seconds

Shown = float | int | str


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def begin(self, total: int | None, unit: str) -> None:
        """Start counting `unit`s (a plural noun) up to `total`, if it is known."""
        ...

    def update(self, done: int, **shown: Shown) -> None:
        """Say how many are done, with values to show beside (numbers or text). Cheap: may be called each step."""
        ...

    def note(self, text: str) -> None:
        """Say one line that stays."""
        ...


class SilentProgress:
    """Says nothing: for tests and for calls from Python."""

    def begin(self, total: int | None, unit: str) -> None:
        """Ignore."""

    def update(self, done: int, **shown: Shown) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


class TerminalProgress:
    """One live line on a terminal, a plain line every `log_seconds` elsewhere. Use as a context manager, once per stage."""

    def __init__(self, name: str, *, position: str = "", log_seconds: float = 10.0) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.name = name
        self.position = position
        self.log_seconds = log_seconds
        self.live: Live | None = None
        self.begin(None, "steps")

    def __enter__(self) -> TerminalProgress:
        if self.console.is_terminal:
            self.live = Live("", console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def begin(self, total: int | None, unit: str) -> None:
        """Start counting from the first `update`, so that a resumed stage shows its true speed."""
        self.total, self.unit = total, unit
        self.started = time.monotonic()
        self.first: int | None = None
        self.next_draw = 0.0

    def update(self, done: int, **shown: Shown) -> None:
        """Redraw at most four times a second (or write a line every `log_seconds`)."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = done, now
        finished = self.total is not None and done >= self.total
        if now < self.next_draw and not finished:
            return
        self.next_draw = now + (0.25 if self.live is not None else self.log_seconds)
        line = self._line(done, now, shown)
        if self.live is not None:
            self.live.update(Text.from_markup(line))
        else:
            sys.stderr.write(Text.from_markup(line).plain + "\n")
            sys.stderr.flush()

    def note(self, text: str) -> None:
        """Write one line above the live one."""
        self.console.print(Text(f"  {self.name}: {text}", style="dim"), soft_wrap=not self.console.is_terminal)  # a log file is not 80 characters wide

    def _line(self, done: int, now: float, shown: dict[str, Shown]) -> str:
        parts = [f"[bold]{self.position} {self.name}[/bold]".strip()]
        if self.total:
            filled = min(20, round(20 * done / self.total))
            parts.append(f"[green]{'━' * filled}[/green][dim]{'━' * (20 - filled)}[/dim] {done:,}/{self.total:,} {self.unit}")
        else:
            parts.append(f"{done:,} {self.unit}")
        parts += [f"{name.replace('_', ' ')} {value if isinstance(value, str) else format_value(value)}" for name, value in shown.items()]
        if self.total and self.first is not None and done > self.first:
            left = (now - self.started) / (done - self.first) * (self.total - done)
            parts.append(f"[cyan]{format_seconds(left)} left[/cyan]")
        return "  ".join(parts)


def format_value(value: float) -> str:
    """Write a number for a progress line: counts with a suffix, small numbers with four digits."""
    return format_count(value) if abs(value) >= 1000 else f"{value:.4g}"
