"""The stage choose_mix: train small models on each of several data mixes, forecast a large one's loss on each, say which is best (Llama 3, section 3.1.2).

Reads token shards and their tokenizer. Writes `mix.json` (the chosen mix, which scaling_laws and pretrain take as `mix`), `mixes.csv` (what
`herdling fit mixes` reads), `mixes.json` (what it prints with --json), `mixes.svg`, `ledger.json` and `mixes/NAME/runs/`. Costs the sum of its budgets for
every mix. Killed at any moment it goes on with the run that it was at.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from herdling.base.artifact import write_json_atomic, write_text_atomic
from herdling.base.decode import Volatile
from herdling.base.errors import SettingsError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream_seed
from herdling.base.units import parse_flops
from herdling.stages.chosen_mix import write_chosen
from herdling.stages.registry import StageRun, TokenizerInput, TokensInput, stage
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from herdling.plan.measurements import MixRows
    from herdling.plan.sweep_points import Point
    from herdling.stages.sweep_runs import Sweep


@stage("choose_mix", output="data_mix")
class ChooseMix:
    """Train a model at each of a few budgets on every mix, all with one rule; fit the loss of every held-out source by a law for each mix; forecast the loss
    of a large model on each, with the chance that a mix is the best (Llama 3, section 3.1.2).
    """

    tokens: TokensInput
    """The texts as tokens: the output of tokenize. Held-out text is needed: by its loss mixes are compared, every source alike in all of them."""
    tokenizer: TokenizerInput
    """The tokenizer that made them."""
    mixes: dict[str, dict[str, float]]
    """Name of a mix -> name of a source -> its weight in it, as in the stage pretrain; two mixes or more."""
    budgets: list[str]
    """Training FLOPs, 6ND, of the small models of every mix; four or more, such as `["1e12", "2e12", "4e12", "8e12"]`, over at least a factor of 2."""
    target: str
    """Training FLOPs of the large model."""
    tokens_per_parameter: Annotated[float, Field(gt=0)] = 20.0
    """Of small models and large one (Hoffmann et al. 2022: about 20 is optimal)."""
    importance: dict[str, float] = field(default_factory=dict)
    """What the loss of a held-out source counts in the choice. Empty: all alike."""
    max_epochs: Annotated[float, Field(gt=0)] = 4.0
    """No source is repeated more often in any run; a mix whose source is too small for that is trained on another one than was asked for."""
    sequence_length: Annotated[int, Field(ge=2)] = 256
    """Tokens in a row."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW. `lr` unset: by the size of the model (`plan/sweep_points.py`)."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The course of the learning rate, over the tokens of each run."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs."""
    validation_tokens: Annotated[int, Field(ge=1)] = 262_144
    """Held-out tokens, from every source alike, the same for all runs; as many as there are, if fewer."""
    workers: Annotated[int, Volatile(), Field(ge=1)] = 1
    """Runs side by side, each on its share of the threads."""

    def run(self, run: StageRun) -> None:
        """Lay out the runs, train them mix by mix, fit, forecast, draw."""
        from herdling.plan.measurements import read_mixes
        from herdling.stages.sweep_runs import train_points
        from herdling.tokenizer import load_tokenizer

        where = f"stages.{run.name}"
        tokenizer = load_tokenizer(run.input(self.tokenizer))
        run.record(tokenizer=tokenizer.fingerprint)
        target = parse_flops(self.target, f"{where}.target")
        points = self._points(tokenizer.vocab_size, where)
        sweeps = self._sweeps(run, tokenizer.fingerprint, where)
        ledger, rows = Ledger(run.name), []
        for name, sweep in sweeps.items():
            run.progress.note(f"mix {name}: {len(points)} runs")
            sweep.folder.mkdir(parents=True, exist_ok=True)
            trained = train_points(sweep, points, workers=self.workers, progress=run.progress, stop_requested=run.stop_requested)
            rows += _kept(name, sweep, trained, ledger)
        ledger.write(run.folder / "ledger.json")
        _write_table(run, rows)
        run.summary |= {"runs": ledger.rows_in, "left_out": ledger.num_dropped}
        run.summary |= self._choose(run, read_mixes(run.folder / "mixes.csv"), target)

    def _points(self, vocab_size: int, where: str) -> list[Point]:
        """Return the small trainings of a mix: one size at each budget."""
        from herdling.model.family import member
        from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN
        from herdling.plan.sweep_points import checked, point_at

        budgets = sorted({parse_flops(text, f"{where}.budgets") for text in self.budgets})
        if len(budgets) < 4 or budgets[-1] < 2 * budgets[0]:
            raise SettingsError(f"{where}.budgets: found {len(budgets)}; a law needs four or more, the largest at least twice the smallest")
        sizes = [(flops / FLOPS_PER_PARAMETER_AND_TOKEN / self.tokens_per_parameter) ** 0.5 for flops in budgets]
        shapes = [member(size, vocab_size=vocab_size, sequence_length=self.sequence_length) for size in sizes]
        return checked([point_at(flops, shape) for flops, shape in zip(budgets, shapes, strict=True)], f"{where}.budgets")

    def _sweeps(self, run: StageRun, tokenizer: str, where: str) -> dict[str, Sweep]:
        """Return the runs' common part for every mix. All are measured on the same rows, from every source that a mix draws from alike."""
        from herdling.stages.sweep_runs import Sweep

        if len(self.mixes) < 2:
            raise SettingsError(f"{where}.mixes: found {len(self.mixes)}, expected two or more to choose from")
        strange = [name for name in self.mixes if not name or "/" in name or name.startswith(".")]
        if strange:
            raise SettingsError(f"{where}.mixes: found the name {strange[0]!r}; a folder is named after a mix, so no slash and no dot in front")
        sources = dict.fromkeys(source for mix in self.mixes.values() for source, weight in mix.items() if weight > 0)
        common = Sweep(
            folder=run.folder,
            texts=run.input(self.tokens),
            tokenizer=tokenizer,
            sources={},
            measured=dict.fromkeys(sources, 1.0),
            max_epochs=self.max_epochs,
            sequence_length=self.sequence_length,
            validation_tokens=self.validation_tokens,
            optimizer=self.optimizer,
            schedule=self.schedule,
            loop=self.loop,
            seed=stream_seed(run.seed, run.name),
            where=where,
        )
        return {
            name: replace(common, folder=run.folder / "mixes" / name, sources=weights, where=f"{where}.mixes.{name}") for name, weights in self.mixes.items()
        }

    def _choose(self, run: StageRun, rows: MixRows, target: float) -> dict[str, Any]:
        """Fit, forecast, write, draw. Returns what the summary says of it."""
        from herdling.plan.data_mix import describe_mixes, fit_mixes, forecast_mixes
        from herdling.report.fit_picture import mixes_picture

        fit = fit_mixes(rows)
        found = forecast_mixes(fit, target, self.tokens_per_parameter, importance=self.importance)
        described = describe_mixes(fit, found, target, self.tokens_per_parameter, self.importance)
        write_json_atomic(run.folder / "mixes.json", described)
        write_chosen(run.folder, described, self.mixes)
        write_text_atomic(run.folder / "mixes.svg", mixes_picture(fit, found, target, self.tokens_per_parameter))
        return {
            "best": described["best"],
            "not_told_apart": ", ".join(described["not_told_apart"]) or "none",
            **{f"loss_{forecast.mix}": round(forecast.mean, 4) for forecast in found},
            "chance_best": round(found[0].chance_best, 3),
        }


def _kept(mix: str, sweep: Sweep, trained: Sequence[Mapping[str, Any]], ledger: Ledger) -> list[dict[str, Any]]:
    """Return the rows of a mix that have a loss, each with its loss on every source."""
    from herdling.stages.sweep_runs import measured_rows

    held_out = sweep.held_out().mixture
    source_of, _ = held_out.rows(0, held_out.num_rows)
    losses = measured_rows(sweep.folder, [row["name"] for row in trained])
    kept = []
    for row in trained:
        ledger.read()
        if row["validation_loss"] is None:
            ledger.drop(row["reason"].split(":")[0], f"{mix}, {row['name']}: {row['reason']}")
            continue
        ledger.keep()
        found = {"mix": mix, "parameters": row["parameters"], "training_tokens": row["training_tokens"], "name": row["name"]}
        for number, source in enumerate(held_out.sources):
            mine = source_of == number
            found[f"loss_{source}"] = float(losses[row["name"]].nats[mine].sum() / max(1, np.sum(losses[row["name"]].num_tokens[mine])))
        kept.append(found)
    return kept


def _write_table(run: StageRun, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]) if rows else ["mix"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text_atomic(run.folder / "mixes.csv", text.getvalue())
