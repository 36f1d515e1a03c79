"""Read measured runs from a .csv (or .csv.gz): each row checked, each refusal with its file and line.

Losses of an isoFLOP sweep have the columns `compute_budget`, `training_tokens`, `validation_loss` and perhaps `parameters`. Two of compute, parameters and
tokens are enough: the third is C = 6ND, and where all three stand they must agree within a factor of two. Runs on several data mixes have a column `mix` and a
loss for each held-out source: `loss_code`, `loss_web` and so on, or one `loss`. Other columns are left alone. No torch.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import DataError
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, Array

COMPUTE = ("compute_budget", "C", "flops", "Training FLOP")
PARAMETERS = ("parameters", "N", "params", "Model Size")
TOKENS = ("training_tokens", "D", "tokens")
LOSS = ("validation_loss", "loss", "final_loss")
MIX = ("mix", "data_mix", "mixture")
SOURCE_PREFIX = "loss_"
LARGEST_RATIO = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRows:
    """Measured losses of runs: parameters N, tokens D, FLOPs C and loss, each [n], with the line that each stands on."""

    name: str
    flops: Array
    parameters: Array
    tokens: Array
    loss: Array
    lines: tuple[int, ...]
    convention: str
    """What N counts: `C/6D` where the file gives none, else the name of its column."""

    def take(self, rows: NDArray[np.intp]) -> LossRows:
        """Return some of the rows, in the order of `rows`."""
        return LossRows(
            name=self.name,
            flops=self.flops[rows],
            parameters=self.parameters[rows],
            tokens=self.tokens[rows],
            loss=self.loss[rows],
            lines=tuple(self.lines[int(row)] for row in rows),
            convention=self.convention,
        )

    def repeated_lines(self) -> list[int]:
        """Return the lines that say the same as an earlier one to the last digit: a run copied twice, rather than trained twice."""
        seen: set[tuple[float, ...]] = set()
        repeated = []
        for line, *run in zip(self.lines, self.flops, self.parameters, self.tokens, self.loss, strict=True):
            if tuple(run) in seen:
                repeated.append(line)
            seen.add(tuple(run))
        return repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRows:
    """Runs on several data mixes: FLOPs C, parameters N, tokens D, each [n], the mix of each, and its loss on every held-out source, [n]."""

    name: str
    flops: Array
    parameters: Array
    tokens: Array
    mixes: tuple[str, ...]
    losses: dict[str, Array]


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a table as text, unpacked if it ends in .gz."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig", newline="") as file:
        yield file


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns and the rows with their line numbers.

    Raises:
        DataError: not a file, not a table, no rows, or a row with too few cells.
    """
    try:
        with opened(path) as file:
            reader = csv.DictReader(file)
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, {str(key).strip(): value for key, value in row.items()}) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a table of comma-separated values ({error})") from None
    if not rows:
        raise DataError(f"{path}: no rows; expected a first line with the names of the columns and a line for each run")
    for line, row in rows:
        if "None" in row or None in row.values():
            raise DataError(f"{path}, line {line}: not {len(columns)} cells as the first line has")
    return columns, rows


def column_of(path: Path, columns: Sequence[str], accepted: Sequence[str], *, needed: bool = True) -> str | None:
    """Return the column that a file calls by one of the accepted names. Raises `DataError` when it is needed and missing."""
    found = next((name for name in accepted if name in columns), None)
    if found is None and needed and len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise DataError(f"{path}: the first line has no comma but {columns[0]!r}; expected cells with a comma between them")
    if found is None and needed:
        raise DataError(f"{path}: no column {accepted[0]} (also accepted: {', '.join(accepted[1:])}); the file has {', '.join(columns) or 'none'}")
    return found


def positive_number(path: Path, line: int, column: str, text: str) -> float:
    """Return the number of a cell. Raises `DataError` for no number, NaN, infinity, 0 or less."""
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{path}, line {line}: {column} is {text!r}, expected a number") from None
    if not isfinite(value) or value <= 0:
        reason = "a run that diverged has no place in a fit: delete the row" if not isfinite(value) else "it must be above 0"
        raise DataError(f"{path}, line {line}: {column} is {text}, expected a finite number above 0 ({reason})")
    return value


def read_losses(path: Path) -> LossRows:
    """Read the losses of a sweep.

    Raises:
        DataError: a missing column, a cell that is no positive number, or compute that is not near 6ND.
    """
    columns, rows = read_table(path)
    loss_column = str(column_of(path, columns, LOSS))
    (flops, parameters, tokens), convention = _scales(path, columns, rows)
    loss = np.array([positive_number(path, line, loss_column, row[loss_column]) for line, row in rows])
    lines = tuple(line for line, _ in rows)
    return LossRows(name=str(path), flops=flops, parameters=parameters, tokens=tokens, loss=loss, lines=lines, convention=convention)


def read_mixes(path: Path) -> MixRows:
    """Read the losses of runs on several data mixes.

    Raises:
        DataError: a missing column, a row without a mix, a cell that is no positive number, or compute that is not near 6ND.
    """
    columns, rows = read_table(path)
    mix_column = str(column_of(path, columns, MIX))
    named = {name.removeprefix(SOURCE_PREFIX): name for name in columns if name.startswith(SOURCE_PREFIX) and name != SOURCE_PREFIX}
    named = named or {"all": str(column_of(path, columns, LOSS))}
    (flops, parameters, tokens), _ = _scales(path, columns, rows)
    for line, row in rows:
        if not row[mix_column].strip():
            raise DataError(f"{path}, line {line}: {mix_column} is empty, expected the name of the data mix that the run was trained on")
    losses = {source: np.array([positive_number(path, line, column, row[column]) for line, row in rows]) for source, column in named.items()}
    mixes = tuple(row[mix_column].strip() for _, row in rows)
    return MixRows(name=str(path), flops=flops, parameters=parameters, tokens=tokens, mixes=mixes, losses=losses)


def _scales(path: Path, columns: Sequence[str], rows: Sequence[tuple[int, dict[str, str]]]) -> tuple[Array, str]:
    """Return compute, parameters and tokens of the rows, [3, n], and what N counts."""
    named = [column_of(path, columns, accepted, needed=False) for accepted in (COMPUTE, PARAMETERS, TOKENS)]
    if sum(name is not None for name in named) < 2:
        raise DataError(f"{path}: needs two of the columns {COMPUTE[0]}, {PARAMETERS[0]} and {TOKENS[0]}; the file has {', '.join(columns)}")
    values = []
    for line, row in rows:
        values.append(_complete(path, line, *(None if name is None else positive_number(path, line, name, row[name]) for name in named)))
    return np.array(values, dtype=np.float64).T, named[1] or "C/6D"


def _complete(path: Path, line: int, flops: float | None, parameters: float | None, tokens: float | None) -> tuple[float, float, float]:
    rate = FLOPS_PER_PARAMETER_AND_TOKEN
    if flops is None:
        assert parameters is not None
        assert tokens is not None
        return rate * parameters * tokens, parameters, tokens
    if parameters is None:
        assert tokens is not None
        return flops, flops / rate / tokens, tokens
    if tokens is None:
        return flops, parameters, flops / rate / parameters
    ratio = flops / (rate * parameters * tokens)
    if not 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
        raise DataError(
            f"{path}, line {line}: compute {flops:g} is {ratio:.3g} times 6ND = {rate * parameters * tokens:g}; expected within a factor {LARGEST_RATIO:g}. "
            "Is a unit wrong (millions, billions), or does N leave out the embeddings of a small model?"
        )
    return flops, parameters, tokens
