"""What a budget buys: read as people write it, spent on the least expected loss, bounded by the text there is."""

from __future__ import annotations

import pytest

from herdling.base.errors import SettingsError
from herdling.model.dial import dial_configs
from herdling.plan.budget import Budget, Offer, choose, least_tokens, parse_budget, peak_lr, round_tokens, seconds_of, step_tokens
from herdling.plan.laws import LAWS

LAW = LAWS["chinchilla"].law


def offers(*, speed: float = 1.0, other_seconds: float = 0.0) -> list[Offer]:
    """Sizes whose tokens cost in proportion to their parameters, as on a machine that reaches the same FLOP/s with all."""
    return [
        Offer(name=str(config.num_parameters()), config=config, seconds_per_token=6 * config.num_parameters() / 1e11 / speed, other_seconds=other_seconds)
        for config in dial_configs(vocab_size=4096)
    ]


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10m", Budget(kind="time", amount=600)),
        ("90s", Budget(kind="time", amount=90)),
        ("1h30m", Budget(kind="time", amount=5400)),
        ("2d", Budget(kind="time", amount=172_800)),
        ("1.5 h", Budget(kind="time", amount=5400)),
        ("5min", Budget(kind="time", amount=300)),
        ("1e15", Budget(kind="flops", amount=1e15)),
        ("3.8e25 FLOPs", Budget(kind="flops", amount=3.8e25)),
        ("$5", Budget(kind="money", amount=5)),
        ("$1,000.50", Budget(kind="money", amount=1000.5)),
    ],
)
def test_budgets_are_read_as_people_write_them(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "text", ["", "10", "10 parsecs", "10M", "-5m", "-1e15", "$", "$-5", "$nan", "0m", "0e10", "$0", "1e999", "5€", "m", "ten minutes", "10m tomorrow"]
)
def test_what_is_no_budget_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--budget: found .*accepted: time such as 90s, 10m"):
        parse_budget(text)


@pytest.mark.parametrize("flops", [1e14, 1e15, 1e16])
def test_time_is_spent_as_the_law_spends_compute_where_all_sizes_are_equally_fast(flops: float) -> None:
    best = choose(offers(), Budget(kind="time", amount=flops / 1e11), LAW)[0]
    assert best.flops == pytest.approx(flops, rel=0.1)
    optimum = LAW.allocate(flops)
    assert 0.6 < best.offer.parameters / optimum.parameters < 1.7  # the sizes are half an octave apart
    assert best.loss == pytest.approx(optimum.loss, rel=0.01)
    by_flops = choose(offers(), Budget(kind="flops", amount=flops), LAW)[0]
    assert (by_flops.offer.name, by_flops.tokens) == (best.offer.name, best.tokens)


def test_a_machine_that_is_slow_with_small_models_raises_larger_ones() -> None:
    even, budget = offers(), Budget(kind="time", amount=1e4)
    slow_when_small = [Offer(name=one.name, config=one.config, seconds_per_token=one.seconds_per_token * (1 + 5e6 / one.parameters)) for one in even]
    assert choose(slow_when_small, budget, LAW)[0].offer.parameters > choose(even, budget, LAW)[0].offer.parameters


def test_more_time_never_buys_a_worse_model_and_the_rest_of_the_recipe_is_paid_first() -> None:
    losses = [choose(offers(other_seconds=60), Budget(kind="time", amount=seconds), LAW)[0].loss for seconds in (120, 300, 600, 1800, 7200)]
    assert losses == sorted(losses, reverse=True)
    best = choose(offers(other_seconds=60), Budget(kind="time", amount=600), LAW)[0]
    assert 0.9 * 540 < best.seconds <= 540


def test_text_that_runs_out_makes_the_model_larger_and_is_told() -> None:
    budget = Budget(kind="time", amount=2e5)
    free, bounded = choose(offers(), budget, LAW)[0], choose(offers(), budget, LAW, max_tokens=4e7)[0]
    assert not free.limited
    assert bounded.limited
    assert bounded.tokens == 40_000_000
    assert bounded.offer.parameters > free.offer.parameters
    assert bounded.offer.parameters < 40e6  # never more weights than tokens


def test_too_little_says_what_the_least_is() -> None:
    with pytest.raises(SettingsError, match=r"1.0s is too little to train anything here: the least is 1m 1\ds \(413K parameters\)"):
        choose(offers(other_seconds=60), Budget(kind="time", amount=1), LAW)
    with pytest.raises(SettingsError, match=r"the least is 1e\+12 FLOPs"):
        choose(offers(), Budget(kind="flops", amount=1e10), LAW)
    assert least_tokens(offers()[0]) == 200 * 2048


def test_money_is_time_at_a_price() -> None:
    assert seconds_of(Budget(kind="money", amount=5), 2.5, 8) == Budget(kind="time", amount=900)
    assert seconds_of(Budget(kind="time", amount=7), None) == Budget(kind="time", amount=7)
    with pytest.raises(SettingsError, match="money buys time at a price"):
        seconds_of(Budget(kind="money", amount=5), None)
    for price in (0.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="accepted: dollars an hour above 0"):
            seconds_of(Budget(kind="money", amount=5), price)


def test_steps_and_rates_of_the_quickstart_are_what_the_dial_gives_its_few_tokens() -> None:
    assert step_tokens(1_328_256, 4e6, 256) == 2048
    assert peak_lr(1_328_256, 4e6) == 4e-3
    assert peak_lr(1_328_256, 4e7) == 2.8e-3
    assert step_tokens(1_328_256, 4e8, 256) == 8192


@pytest.mark.parametrize(("tokens", "rounded"), [(11_987_654, 11_000_000), (999, 990), (10, 10), (9.9, 0)])
def test_tokens_are_round_and_never_more_than_there_are(tokens: float, rounded: int) -> None:
    assert round_tokens(tokens) == rounded
