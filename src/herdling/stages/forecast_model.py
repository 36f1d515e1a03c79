"""A model that a scaling law chose, and how near the law came: its size before the training, its loss on the sweep's own held-out rows after it.

Reads the artifact of the stage scaling_laws; writes `loss_forecast.json` and `loss_forecast.svg` beside the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herdling.base.artifact import write_json_atomic, write_text_atomic
from herdling.base.errors import DataError, LineageError
from herdling.base.seeds import stream_seed
from herdling.plan.compute_optimal import optimal_point
from herdling.plan.isoflop import fit_isoflop
from herdling.plan.loss_forecast import LossForecast, forecast_loss
from herdling.plan.measurements import LossRows, read_losses
from herdling.plan.parametric import fit_parametric
from herdling.train.size import Size

if TYPE_CHECKING:
    from herdling.data.token_shards import TokenShards
    from herdling.model.precision import Device
    from herdling.model.transformer import Llama


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted sweep: its runs, and by which rules they were made."""

    folder: Path
    rows: LossRows
    record: Mapping[str, Any]

    def size(self, flops: float, vocab_size: int, where: str) -> Size:
        """Return what this compute buys best, by the rules of the sweep. Raises `LineageError` for another vocabulary."""
        if vocab_size != self.record["vocab_size"]:
            raise LineageError(
                f"{where}: {self.folder} was fitted with {self.record['vocab_size']:,} ids, the tokenizer here has {vocab_size:,};"
                " losses of a token do not compare"
            )
        length = self.record["sequence_length"]
        point = optimal_point(fit_isoflop(self.rows), flops, vocab_size=vocab_size, sequence_length=length)
        lr = self.record["optimizer"]["lr"] or point.lr
        return Size(config=point.config, lr=lr, batch=f"{point.batch_tokens}@{length}", num_tokens=str(point.num_tokens))

    def compare(self, model: Llama, num_tokens: int, held_out: Mapping[str, TokenShards], device: Device, folder: Path) -> dict[str, Any]:
        """Measure a trained model on the rows that the sweep was measured on, and write the forecast beside it. Returns small numbers for the summary."""
        from herdling.evals.row_loss import held_out_rows, row_losses
        from herdling.train.forward import scorer

        weights = {name: weight for name, weight in self.record["weights"].items() if name in held_out}
        seed, length = stream_seed(self.record["seed"], "held out"), self.record["sequence_length"]
        rows = held_out_rows(held_out, weights, max_tokens=self.record["validation_tokens"], sequence_length=length, seed=seed, where=str(self.folder))
        if rows.fingerprint != self.record["held_out"]:
            raise LineageError(f"{self.folder}: its runs were measured on other held-out text than there is here; name the tokens that it was made from")
        measured = row_losses(scorer(model), rows, device.device).mean
        parameters = model.config.num_parameters()
        try:
            expected = forecast_loss(self.rows, parameters, num_tokens, outliers=self.record["outliers"])
        except DataError as error:
            write_json_atomic(folder / "loss_forecast.json", {"measured": measured, "not_forecast": str(error)})
            return {"held_out_loss": round(measured, 4), "not_forecast": str(error)}
        flops = expected.flops
        found = {
            **asdict(expected),
            "flops": flops,
            "times_largest_budget": flops / expected.from_flops,
            "measured": measured,
            "relative_error": measured / expected.loss - 1,
            "in_interval": expected.low <= measured <= expected.high,
        }
        write_json_atomic(folder / "loss_forecast.json", found)
        write_text_atomic(folder / "loss_forecast.svg", self.picture(expected, measured))
        return {
            "held_out_loss": round(measured, 4),
            "forecast_loss": f"{expected.loss:.4f} ({expected.low:.4f} to {expected.high:.4f})",
            "forecast_error": round(found["relative_error"], 5),
            "in_interval": found["in_interval"],
        }

    def picture(self, expected: LossForecast, measured: float) -> str:
        """Draw the law over compute with the model that was trained, its forecast and the interval of that."""
        from herdling.report.fit_picture import loss_panel
        from herdling.report.panels import picture

        fit, flops = fit_parametric(self.rows, outliers=self.record["outliers"]), expected.flops
        forecasts = {flops: (expected.loss, expected.low, expected.high)}
        panel = loss_panel(self.rows, fit, [flops], forecasts=forecasts, measured={"measured": (flops, measured)})
        return picture([[panel]], "Forecast and measured loss")


def read_law(folder: Path) -> Law:
    """Read the artifact of a sweep."""
    return Law(folder, read_losses(folder / "losses.csv"), json.loads((folder / "law.json").read_text(encoding="utf-8")))
