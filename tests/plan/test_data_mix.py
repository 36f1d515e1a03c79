"""Made mixes whose best is known are ranked right, with intervals that hold the truth, and doubt where the runs leave doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from herdling.base.errors import DataError, SettingsError
from herdling.plan.data_mix import describe_mixes, fit_mixes, forecast_mixes, usual_ratio
from herdling.plan.measurements import MixRows, read_mixes
from tests.plan.made_mixes import LAWS, made_mixes, true_loss, write_mixes

FLOPS, RATIO = 1e21, 20.0
SIZE = (FLOPS / 6 / RATIO) ** 0.5


def taken(rows: MixRows, keep: list[bool]) -> MixRows:
    flags = np.array(keep)
    mixes = tuple(mix for mix, kept in zip(rows.mixes, keep, strict=True) if kept)
    losses = {source: loss[flags] for source, loss in rows.losses.items()}
    return replace(rows, flops=rows.flops[flags], parameters=rows.parameters[flags], tokens=rows.tokens[flags], mixes=mixes, losses=losses)


def test_losses_of_a_large_model_on_each_mix_come_back_and_the_best_mix_is_first() -> None:
    found = forecast_mixes(fit_mixes(made_mixes()), FLOPS, RATIO, num_worlds=20)
    truth = {mix: {source: float(true_loss(mix, source, SIZE, RATIO * SIZE)) for source in ("web", "code")} for mix in LAWS}
    for forecast in found:
        assert forecast.losses == pytest.approx(truth[forecast.mix], rel=2e-3)
    assert [forecast.mix for forecast in found] == sorted(truth, key=lambda mix: sum(truth[mix].values()))
    assert found[0].chance_best == max(forecast.chance_best for forecast in found)


def test_a_source_that_counts_alone_decides_alone() -> None:
    fit = fit_mixes(made_mixes())
    assert forecast_mixes(fit, FLOPS, RATIO, importance={"code": 1.0}, num_worlds=20)[0].mix == "code"
    assert forecast_mixes(fit, FLOPS, RATIO, importance={"web": 1.0}, num_worlds=20)[0].mix == "web"


def test_two_names_for_one_mix_are_not_told_apart_and_a_worse_one_is() -> None:
    rows = made_mixes(noise=0.004)
    half = [mix == "half code" for mix in rows.mixes]
    other = taken(made_mixes(noise=0.004, seed=1), half)
    both = replace(
        rows,
        flops=np.concatenate([rows.flops, other.flops]),
        parameters=np.concatenate([rows.parameters, other.parameters]),
        tokens=np.concatenate([rows.tokens, other.tokens]),
        mixes=(*rows.mixes, *("again" for _ in other.mixes)),
        losses={source: np.concatenate([loss, other.losses[source]]) for source, loss in rows.losses.items()},
    )
    fit = fit_mixes(both)
    found = describe_mixes(fit, forecast_mixes(fit, FLOPS, RATIO), FLOPS, RATIO)
    assert {found["best"], *found["not_told_apart"]} == {"half code", "again"}
    assert sum(mix["chance_best"] for mix in found["mixes"].values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_nine_times_in_ten() -> None:
    held = []
    for seed in range(10):
        for forecast in forecast_mixes(fit_mixes(made_mixes(noise=0.004, seed=seed)), FLOPS, RATIO, num_worlds=80, seed=seed):
            truth = np.mean([true_loss(forecast.mix, source, SIZE, RATIO * SIZE) for source in ("web", "code")])
            held.append(forecast.interval.holds(float(truth)))
    assert np.mean(held) >= 0.7  # 30 intervals, of which those of a world go together


def test_usual_ratio_is_that_of_the_largest_runs() -> None:
    assert usual_ratio(made_mixes()) == pytest.approx(60)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = made_mixes()
    read = read_mixes(write_mixes(tmp_path / "mixes.csv", rows))
    assert read.mixes == rows.mixes
    np.testing.assert_allclose(read.losses["code"], rows.losses["code"])
    np.testing.assert_allclose(read.flops, rows.flops)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N,D,loss\n1e7,1e9,3\n", "no column mix"),
        ("mix,N,D\nweb,1e7,1e9\n", "no column validation_loss"),
        ("mix,N,loss_web\nweb,1e7,3\n", "needs two of the columns"),
        ("mix,N,D,loss_web\n ,1e7,1e9,3\n", "line 2: mix is empty"),
        ("mix,N,D,loss_web\nweb,1e7,1e9,nan\n", "line 2: loss_web is nan"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mixes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_mixes(tmp_path / "mixes.csv")


def test_one_mix_few_runs_or_an_unknown_source_are_refused() -> None:
    rows = made_mixes()
    with pytest.raises(DataError, match="one mix, web"):
        fit_mixes(taken(rows, [mix == "web" for mix in rows.mixes]))
    few = [mix != "code" or row >= len(rows.mixes) - 2 for row, mix in enumerate(rows.mixes)]
    with pytest.raises(DataError, match="the mix code has 2 runs"):
        fit_mixes(taken(rows, few))
    with pytest.raises(SettingsError, match="did you mean 'code'"):
        forecast_mixes(fit_mixes(rows), FLOPS, RATIO, importance={"cod": 1.0})
    with pytest.raises(SettingsError, match="the weights of all sources are 0"):
        forecast_mixes(fit_mixes(rows), FLOPS, RATIO, importance={"code": 0.0})
