import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdling.base.errors import SettingsError
from herdling.train.config import ScheduleConfig
from herdling.train.schedule import parse_ramp, parse_share, plan_schedule

LLAMA3 = "0:4M@4096 252B:8M@8192 2.87T:16M@8192"


def plan(num_tokens=1000 * 64, batch="64@16", sequence_length=None, **config):
    return plan_schedule(ScheduleConfig(**config), num_tokens=num_tokens, batch=batch, sequence_length=sequence_length, where="stages.pretrain")


def test_the_ramp_of_llama_3_has_the_steps_that_its_figures_give():
    schedule = plan(num_tokens=15_600_000_000_000, batch=LLAMA3)
    first, second, third = schedule.phases
    assert (first.rows, first.sequence_length) == (976, 4096)
    assert (second.rows, second.sequence_length) == (976, 8192)
    assert (third.rows, third.sequence_length) == (1953, 8192)
    # Llama 3, section 3.4.1: 63K + 327K + 796K steps, about the printed 1.2M.
    assert second.first_step == pytest.approx(63_000, rel=0.01)
    assert third.first_step - second.first_step == pytest.approx(327_000, rel=0.01)
    assert schedule.num_steps - third.first_step == pytest.approx(796_000, rel=0.01)


def test_a_phase_begins_where_the_one_before_has_seen_its_tokens():
    schedule = plan(num_tokens=10_000, batch="0:64@16 1000:128@32 5000:256@32")
    for before, after in zip(schedule.phases, schedule.phases[1:], strict=False):
        steps = after.first_step - before.first_step
        assert after.first_token == before.first_token + steps * before.batch_tokens
    assert [phase.first_token for phase in schedule.phases] == [0, 1024, 5120]
    assert schedule.num_tokens == 5120 + 19 * 256


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 5000), st.integers(2, 9), st.integers(1, 30_000))
def test_steps_add_up_to_the_tokens_and_never_pass_what_was_asked_for(rows, length, start, factor, num_tokens):
    ramp = f"0:{rows * length}@{length} {start + 1}:{rows * length * factor}@{length}"
    try:
        schedule = plan(num_tokens=num_tokens, batch=ramp)
    except SettingsError:
        assert num_tokens < rows * length
        return
    seen = 0
    for step in range(schedule.num_steps):
        assert schedule.tokens_before(step) == seen
        seen += schedule.phase(step).batch_tokens
    assert schedule.num_tokens == seen <= num_tokens


def test_warm_up_is_linear_and_cosine_ends_at_the_final_share():
    schedule = plan(warmup="10%", final=0.1)
    shares = [schedule.lr_share(step) for step in range(schedule.num_steps)]
    assert shares[0] == pytest.approx(0.5 / 100)
    assert shares[49] == pytest.approx(49.5 / 100)
    assert max(shares) == pytest.approx(1.0, abs=1e-5)
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi * (550.5 - 100) / 900)) / 2
    assert shares[550] == pytest.approx(middle)
    assert shares[-1] == pytest.approx(0.1, abs=1e-5)


def test_linear_decay_to_zero_still_moves_the_weights_at_the_last_step():
    schedule = plan(warmup="0%", decay="linear", final=0.0)
    assert schedule.lr_share(0) == pytest.approx(1 - 0.5 / 1000)
    assert schedule.lr_share(999) == pytest.approx(0.5 / 1000)


def test_constant_stays_at_the_peak():
    schedule = plan(warmup="6400", decay="constant")
    assert schedule.lr_share(99) < 1
    assert {schedule.lr_share(step) for step in range(100, 1000)} == {1.0}


def test_a_plain_batch_takes_the_sequence_length_and_whole_rows():
    assert parse_ramp("16K", 256, "batch") == [(0, 15_872, 256)]
    assert parse_ramp("16384", 256, "batch") == [(0, 16_384, 256)]


@pytest.mark.parametrize(
    ("ramp", "complaint"),
    [
        ("", "rising starts from 0"),
        ("5:64@16", "rising starts from 0"),
        ("0:64@16 0:128@16", "rising starts from 0"),
        ("0:64@16 100:128@16 50:64@16", "rising starts from 0"),
        ("0:8@16", "at least one row"),
        ("0:64", "names no sequence length"),
        ("0:sixty@16", "expected a count"),
        ("64@0", "at least one row"),
    ],
)
def test_a_ramp_that_cannot_be_read_is_refused_by_name(ramp, complaint):
    with pytest.raises(SettingsError, match=complaint):
        parse_ramp(ramp, None, "stages.pretrain.batch")


@pytest.mark.parametrize("text", ["x%", "-1%", "101%"])
def test_a_share_outside_of_the_run_is_refused(text):
    with pytest.raises(SettingsError, match="expected tokens such as 8B or a share"):
        parse_share(text, 100, "warmup")


def test_less_than_one_batch_and_a_warm_up_longer_than_the_run_are_refused():
    with pytest.raises(SettingsError, match="63 tokens are less than one batch"):
        plan(num_tokens=63)
    with pytest.raises(SettingsError, match="Shorten the warm-up"):
        plan(warmup="8B")
