"""The stage scaling_laws: train many small models on a few budgets, fit their losses, forecast a larger one (Llama 3, section 3.2.1).

Reads token shards and their tokenizer. Writes `losses.csv` (what `herdling fit isoflop` reads), `fit.json` (what it prints with --json), `forecast.json`
(size, tokens and loss of each target), `law.json` (rules and held-out set, for a model that is to be compared), `isoflop.svg`, `law.svg`, `ledger.json` and
`runs/`. Costs the sum of its budgets times its runs. Killed at any moment it goes on with the run that it was at.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import write_json_atomic, write_text_atomic
from herdling.base.decode import Volatile, encode
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream_seed
from herdling.base.units import format_count, parse_count, parse_flops
from herdling.stages.chosen_mix import source_weights
from herdling.stages.registry import DataMixInput, StageRun, TokenizerInput, TokensInput, stage
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from herdling.plan.measurements import LossRows
    from herdling.plan.sweep_points import Point
    from herdling.stages.sweep_runs import Sweep

COLUMNS = ("compute_budget", "training_tokens", "validation_loss", "parameters", "exact_flops", "steps", "batch_tokens", "lr", "name")


@stage("scaling_laws", output="scaling_law")
class ScalingLaws:
    """Train several sizes at each of a few budgets, each with a cosine to its own end; draw a parabola through the losses of a budget, a power law through
    the lowest points, a parametric law through all runs; forecast the best size, its tokens and its loss at larger budgets (Llama 3, section 3.2.1: budgets
    from 6e18 to 1e22 FLOPs, sizes from 40M to 16B).
    """

    tokens: TokensInput
    """The texts as tokens: the output of tokenize. Held-out text is needed: by its loss runs are compared."""
    tokenizer: TokenizerInput
    """The tokenizer that made them."""
    budgets: list[str] = field(default_factory=list)
    """Training FLOPs of each budget, 6ND, such as `["1e12", "2e12", "4e12"]`. Empty: `num_budgets` in equal ratios from `smallest` to `largest`."""
    smallest: str | None = None
    """The smallest budget, where `budgets` is empty. Llama 3: 6e18."""
    largest: str | None = None
    """The largest budget, where `budgets` is empty. Llama 3: 1e22."""
    num_budgets: Annotated[int, Field(ge=2)] = 5
    """How many budgets from `smallest` to `largest`. Two fix a line and say nothing of how sure it is."""
    runs_per_budget: Annotated[int, Field(ge=3)] = 6
    """How many sizes at each budget, in equal ratios around the expected optimum; fewer where two fall on the same shape."""
    spread: Annotated[float, Field(gt=1)] = 3.5
    """How much smaller and larger than the expected optimum the sizes reach: both arms of the parabola must be seen, and far out it is none."""
    tokens_per_parameter: Annotated[float, Field(gt=0)] = 20.0
    """The expected optimum, around which the sizes are laid (Hoffmann et al. 2022). Where parabolas have their lowest point outside, move it."""
    sizes: list[str] = field(default_factory=list)
    """Train these sizes at every budget, such as `["100K", "200K", "400K"]`, in place of sizes around the expected optimum."""
    target: list[str] = field(default_factory=list)
    """Budgets to forecast, in FLOPs. Llama 3: 3.8e25, 3,800 times its largest."""
    sources: dict[str, float] = field(default_factory=dict)
    """Name of a source -> its weight in the mixture, as in the stage pretrain. Empty: each source by its size."""
    mix: DataMixInput | None = None
    """The weights that the stage choose_mix chose, in place of `sources`, as in the stage pretrain."""
    max_epochs: Annotated[float, Field(gt=0)] = 4.0
    """No source is repeated more often in any run. A run that reads its text many times lies above the law of fresh text."""
    sequence_length: Annotated[int, Field(ge=2)] = 256
    """Tokens in a row. Below a million parameters take 32: in longer rows the loss of so small a model leaps down at a moment of luck, and the losses
    of a size scatter by 1.7 % instead of 0.1 (docs/decisions/0073)."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW. `lr` unset: by the size of the model (`plan/sweep_points.py`); a number holds for every size."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The course of the learning rate, over the tokens of each run: a run that is cut off before its end has a higher loss than one that was to end there."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs."""
    outliers: str = "keep"
    """What the parametric fit leaves out: `keep`, `highest:K` or `residual:Z`, as `herdling fit`."""
    validation_tokens: Annotated[int, Field(ge=1)] = 262_144
    """Held-out tokens, the same for all runs, in the proportions of training; as many as there are, if fewer. How sure the difference of two runs is by
    them stands in the summary: `held_out_error`, in nats."""
    workers: Annotated[int, Volatile(), Field(ge=1)] = 1
    """Runs side by side, each on its share of the threads: a small model gains little by a second thread, a second run gains all of it. As between machines,
    other numbers of threads round otherwise."""

    def run(self, run: StageRun) -> None:
        """Lay out the runs, train them, fit, forecast, draw."""
        from herdling.stages.sweep_runs import Sweep, train_points
        from herdling.tokenizer import load_tokenizer

        where = f"stages.{run.name}"
        tokenizer = load_tokenizer(run.input(self.tokenizer))
        run.record(tokenizer=tokenizer.fingerprint)
        targets = [parse_flops(text, f"{where}.target") for text in self.target]
        points = self._points(tokenizer.vocab_size, where)
        sweep = Sweep(
            folder=run.folder,
            texts=run.input(self.tokens),
            tokenizer=tokenizer.fingerprint,
            sources=source_weights(run, self.mix, self.sources),
            max_epochs=self.max_epochs,
            sequence_length=self.sequence_length,
            validation_tokens=self.validation_tokens,
            optimizer=self.optimizer,
            schedule=self.schedule,
            loop=self.loop,
            seed=stream_seed(run.seed, run.name),
            where=where,
        )
        rows = train_points(sweep, points, workers=self.workers, progress=run.progress, stop_requested=run.stop_requested)
        trained = _write_losses(run, rows)
        run.summary |= {"runs": len(points), "left_out": len(points) - trained, "flops": sum(row["compute_budget"] for row in rows)}
        run.summary |= self._write_law(sweep, points, rows, tokenizer.vocab_size)
        run.summary |= self._write_fit(run, targets, tokenizer.vocab_size)

    def _points(self, vocab_size: int, where: str) -> list[Point]:
        """Lay out the runs."""
        from herdling.plan.sweep_points import at_sizes, budgets_between, lay_out

        if bool(self.budgets) == bool(self.smallest and self.largest):
            raise SettingsError(f"{where}: expected either budgets, or smallest and largest, such as smallest = '1e12', largest = '1.6e13'")
        if self.budgets:
            budgets = [parse_flops(text, f"{where}.budgets") for text in self.budgets]
        else:
            budgets = budgets_between(
                parse_flops(str(self.smallest), f"{where}.smallest"), parse_flops(str(self.largest), f"{where}.largest"), self.num_budgets
            )
        if len(set(budgets)) < 2:
            raise SettingsError(f"{where}.budgets: found {len(set(budgets))}; a power law needs at least two budgets, better five")
        if self.sizes:
            sizes = [float(parse_count(text, where=f"{where}.sizes")) for text in self.sizes]
            return at_sizes(budgets, sizes, vocab_size=vocab_size, sequence_length=self.sequence_length, where=f"{where}.sizes")
        return lay_out(
            budgets,
            runs_per_budget=self.runs_per_budget,
            spread=self.spread,
            tokens_per_parameter=self.tokens_per_parameter,
            vocab_size=vocab_size,
            sequence_length=self.sequence_length,
            where=f"{where}.budgets",
        )

    def _write_law(self, sweep: Sweep, points: Sequence[Point], rows: Sequence[dict[str, Any]], vocab_size: int) -> dict[str, Any]:
        """Write by which rules the runs were made, and on what they were measured. Returns how sure the held-out losses are."""
        from herdling.stages.sweep_runs import measured_rows

        held_out = sweep.held_out()
        measured = list(measured_rows(sweep.folder, [point.name for point in points]).values())
        luck: dict[str, Any] = {"held_out_tokens": held_out.num_rows * self.sequence_length}
        if len(measured) > 1:
            differences = [one.error(other) for one, other in pairwise(measured)]
            luck |= {"held_out_error": round(max(differences), 5), "held_out_error_of_level": round(max(one.error() for one in measured), 5)}
        write_json_atomic(
            sweep.folder / "law.json",
            {
                "vocab_size": vocab_size,
                "convention": "N counts all weights, the tied embedding once; C = 6ND; loss in nats a token of held-out rows",
                "sources": sweep.sources,
                "weights": sweep.weights(),
                "max_epochs": sweep.max_epochs,
                "sequence_length": sweep.sequence_length,
                "validation_tokens": sweep.validation_tokens,
                "seed": sweep.seed,
                "held_out": held_out.fingerprint,
                "optimizer": encode(sweep.optimizer),
                "schedule": encode(sweep.schedule),
                "outliers": self.outliers,
                "largest_exact_ratio": max(row["exact_flops"] / row["compute_budget"] for row in rows),
                "left_out": [{"name": row["name"], "reason": row["reason"]} for row in rows if row["reason"]],
            },
        )
        return luck

    def _write_fit(self, run: StageRun, targets: Sequence[float], vocab_size: int) -> dict[str, Any]:
        """Fit, forecast, draw. Returns what the summary says of it."""
        from herdling.plan.isoflop import fit_isoflop
        from herdling.plan.measurements import read_losses
        from herdling.plan.resampling import flops_name

        rows = read_losses(run.folder / "losses.csv")
        line = fit_isoflop(rows)
        asked = list(targets) or [float(rows.flops.max())]
        found = _fitted(rows, asked, self.outliers)
        write_json_atomic(run.folder / "fit.json", found)
        forecasts = {flops_name(flops): forecast(rows, flops, vocab_size, self.sequence_length, self.outliers) for flops in targets}
        write_json_atomic(run.folder / "forecast.json", forecasts)
        _draw(run, rows, asked, self.outliers, list(forecasts.values()))
        held = found["held_out"].get("mean_relative_error")
        return {
            "alpha": round(line.alpha, 4),
            **({"largest_budget_error": round(held, 5)} if held is not None else {}),
            **{f"forecast_{name}": in_words(row) for name, row in forecasts.items()},
        }


def forecast(rows: LossRows, flops: float, vocab_size: int, sequence_length: int, outliers: str) -> dict[str, Any]:
    """Return what a sweep says of one budget: size, tokens, batch, learning rate, loss with its interval, and what exact FLOPs would choose."""
    from herdling.plan.compute_optimal import by_exact_flops, optimal_point
    from herdling.plan.isoflop import fit_isoflop
    from herdling.plan.loss_forecast import forecast_loss
    from herdling.plan.parametric import fit_parametric

    point = optimal_point(fit_isoflop(rows), flops, vocab_size=vocab_size, sequence_length=sequence_length)
    found = {"parameters": point.parameters, "tokens": point.num_tokens, "batch_tokens": point.batch_tokens, "lr": point.lr, "config": encode(point.config)}
    try:
        expected = asdict(forecast_loss(rows, point.parameters, point.num_tokens, outliers=outliers))
        exact = by_exact_flops(fit_parametric(rows, outliers=outliers).law, point.exact_flops, vocab_size=vocab_size, sequence_length=sequence_length)
    except DataError as error:
        return found | {"not_forecast": str(error)}
    return found | expected | {"by_exact_flops": {"parameters": exact.parameters, "tokens": exact.num_tokens}}


def in_words(row: dict[str, Any]) -> str:
    """Say a forecast in a line."""
    bought = f"{format_count(row['parameters'])} parameters on {format_count(row['tokens'])} tokens"
    if "loss" not in row:
        return f"{bought}, loss not forecast: {row['not_forecast']}"
    return f"{bought}, loss {row['loss']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _fitted(rows: LossRows, flops: Sequence[float], outliers: str) -> dict[str, Any]:
    """Fit by every method: sizes return at several budgets, each with a cosine to its own end, so the envelope of sizes (approach 1) can be drawn too."""
    from herdling.plan.sweep import forecast_sweep

    try:
        return forecast_sweep(rows, flops, outliers=outliers, trajectories=True)
    except DataError:
        return forecast_sweep(rows, flops, outliers=outliers)


def _draw(run: StageRun, rows: LossRows, flops: Sequence[float], outliers: str, forecasts: Sequence[Mapping[str, Any]]) -> None:
    from herdling.plan.sweep import fits_of
    from herdling.report.fit_picture import isoflop_panel, loss_panel, tokens_panel
    from herdling.report.panels import picture

    line, fit = fits_of(rows, outliers=outliers)
    assert line is not None  # a sweep whose parabolas do not stand was refused before
    write_text_atomic(run.folder / "isoflop.svg", picture([[isoflop_panel(rows, line)]], f"Losses of {run.name} by budget"))
    expected = {6.0 * row["parameters"] * row["tokens"]: (row["loss"], row["low"], row["high"]) for row in forecasts if "loss" in row}
    panels = [[tokens_panel(line, fit, flops)], *([[loss_panel(rows, fit, flops, forecasts=expected)]] if fit else [])]
    write_text_atomic(run.folder / "law.svg", picture(panels, f"Scaling law of {run.name}"))


def _write_losses(run: StageRun, rows: Sequence[dict[str, Any]]) -> int:
    """Write the runs that have a loss as a table, the others into the ledger. Returns how many have one."""
    ledger = Ledger(run.name)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in rows:
        ledger.read()
        if row["validation_loss"] is None:
            ledger.drop(row["reason"].split(":")[0], f"{row['name']}: {row['reason']}")
            continue
        ledger.keep()
        table.writerow(row)
    ledger.write(run.folder / "ledger.json")
    if not ledger.kept:
        raise DataError(f"{run.folder}: none of {len(rows)} runs has a loss: {json.dumps(rows[0]['reason'])}. Lower optimizer.lr or lengthen schedule.warmup")
    write_text_atomic(run.folder / "losses.csv", text.getvalue())
    return ledger.kept
