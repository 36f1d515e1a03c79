"""Learning rate and batch size as functions of the tokens seen, the way the papers write them.

`"0:4M@4096 252B:8M@8192 2.87T:16M@8192"` is the ramp of Llama 3 405B (section 3.4.1): from the start batches of 4M tokens in rows of 4,096, after 252B
tokens batches of 8M in rows of 8,192, and so on. A plan is pure arithmetic on the step: nothing here is stateful, so a resumed run needs only its step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from herdling.base.errors import SettingsError
from herdling.base.units import parse_count
from herdling.train.config import ScheduleConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of steps with one batch size."""

    first_step: int
    first_token: int
    batch_tokens: int
    sequence_length: int

    @property
    def rows(self) -> int:
        """Rows of `sequence_length` tokens in one step, over all ranks."""
        return self.batch_tokens // self.sequence_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A run laid out in steps: which batch and which share of the peak learning rate each step has."""

    phases: tuple[Phase, ...]
    num_steps: int
    num_tokens: int
    """Tokens of all steps: the most whole steps that fit into what was asked for."""
    warmup_tokens: int
    decay: str
    final: float

    def phase(self, step: int) -> Phase:
        """Return the phase of a step, counted from 0."""
        return next(phase for phase in reversed(self.phases) if phase.first_step <= step)

    def tokens_before(self, step: int) -> int:
        """Return the tokens seen by all steps before this one."""
        phase = self.phase(step)
        return phase.first_token + (step - phase.first_step) * phase.batch_tokens

    def lr_share(self, step: int) -> float:
        """Return the learning rate of a step as a fraction of the peak.

        Taken at the middle of the step's tokens: the first step of a warm-up then moves the weights, and so does the last of a decay to 0.
        """
        tokens = self.tokens_before(step) + self.phase(step).batch_tokens / 2
        if tokens < self.warmup_tokens:
            return tokens / self.warmup_tokens
        done = (tokens - self.warmup_tokens) / max(1, self.num_tokens - self.warmup_tokens)
        fall = {"cosine": (1 - math.cos(math.pi * done)) / 2, "linear": done, "constant": 0.0}[self.decay]
        return 1 - (1 - self.final) * fall


def plan_schedule(config: ScheduleConfig, *, num_tokens: int, batch: str, sequence_length: int | None, where: str, min_warmup_steps: int = 0) -> Schedule:
    """Lay out a run of at most `num_tokens` tokens. `batch` is a ramp as in the module's docstring, or one count such as `16K`.

    The warm-up is at least `min_warmup_steps` first steps long, or the whole run where that is shorter.

    Raises:
        SettingsError: the ramp cannot be read or does not fit the run, or the warm-up is longer than the run.
    """
    phases: list[Phase] = []
    step = token = 0
    parts = parse_ramp(batch, sequence_length, f"{where}.batch")
    for index, (_, batch_tokens, length) in enumerate(parts):
        end = parts[index + 1][0] if index + 1 < len(parts) else num_tokens
        # A phase goes on until its end is reached; the run itself never sees more than was asked for.
        steps = min(-(-(end - token) // batch_tokens), (num_tokens - token) // batch_tokens)
        if steps > 0:
            phases.append(Phase(first_step=step, first_token=token, batch_tokens=batch_tokens, sequence_length=length))
            step, token = step + steps, token + steps * batch_tokens
    if not phases:
        raise SettingsError(f"{where}: {num_tokens:,} tokens are less than one batch ({parts[0][1]:,} tokens). Train on more tokens or in smaller batches")
    warmup = parse_share(config.warmup, token, f"{where}.schedule.warmup")
    if warmup > token:
        raise SettingsError(f"{where}.schedule.warmup: {config.warmup!r} is {warmup:,} tokens, the whole run has {token:,}. Shorten the warm-up")
    warmup = max(warmup, min(token, min_warmup_steps * phases[0].batch_tokens))
    return Schedule(phases=tuple(phases), num_steps=step, num_tokens=token, warmup_tokens=warmup, decay=config.decay, final=config.final)


def parse_ramp(text: str, sequence_length: int | None, where: str) -> list[tuple[int, int, int]]:
    """Read a ramp as (first token, batch in tokens, sequence length). A part without `@length` takes `sequence_length`.

    Raises:
        SettingsError: naming the part that is wrong.
    """
    parts = []
    for part in text.split():
        start, colon, size = part.rpartition(":")
        tokens, at, length_text = size.partition("@")
        length = parse_count(length_text, where=where) if at else sequence_length
        if length is None:
            raise SettingsError(f"{where}: {part!r} names no sequence length; write {part}@4096, or set sequence_length")
        asked = parse_count(tokens, where=where)
        if length < 1 or asked < length:
            raise SettingsError(f"{where}: {part!r} asks for a batch of {asked:,} tokens in rows of {length:,}; a batch holds at least one row")
        # Whole rows: 4M tokens in rows of 4,096 are 976 rows, 3,997,696 tokens.
        parts.append((parse_count(start, where=where) if colon else 0, asked - asked % length, length))
    starts = [start for start, _, _ in parts]
    if not parts or starts[0] != 0 or sorted(set(starts)) != starts:
        raise SettingsError(f"{where}: found {text!r}, expected parts START:BATCH@LENGTH with rising starts from 0, such as '0:4M@4096 252B:8M@8192'")
    return parts


def parse_share(text: str, whole: int, where: str) -> int:
    """Read a count of tokens (`8B`) or a share of the run (`2%`)."""
    if not text.strip().endswith("%"):
        return parse_count(text, where=where)
    try:
        share = float(text.strip()[:-1]) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingsError(f"{where}: found {text!r}, expected tokens such as 8B or a share from 0% to 100%")
    return round(share * whole)
