"""Tables of failures: Llama 3's as it adds up, rates in proportion, and files that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.errors import DataError, SettingsError
from herdling.plan.failures import LLAMA3, FailureClass, FailureTable, Rates, read_failures


def test_llama3_table_adds_up_to_the_419_of_the_text() -> None:
    assert LLAMA3.count() == 419
    assert LLAMA3.by_category() == {"GPU": 268, "Dependency": 56, "Network": 35, "Unplanned Maintenance": 32, "Host": 21, "Unknown": 7}


def test_shares_come_from_the_counts_and_not_from_the_misprint() -> None:
    assert LLAMA3.share("Faulty GPU") == pytest.approx(148 / 419)
    # Three rows as printed: 17.2, 12.9 and 8.4 %.
    assert [round(100 * LLAMA3.share(name), 1) for name in ("GPU HBM3 Memory", "Software Bug", "Network Switch/Cable")] == [17.2, 12.9, 8.4]


def test_llama3_fails_every_three_hours_and_half_as_often_on_half_the_gpus() -> None:
    assert LLAMA3.rates(16384).mean_time_between_failures == pytest.approx(54 * 86400 / 419)
    assert LLAMA3.rates(8192).mean_time_between_failures == pytest.approx(2 * 54 * 86400 / 419)
    assert LLAMA3.rates(16384, count=838).mean_time_between_failures == pytest.approx(54 * 86400 / 838)


def test_a_file_is_read_by_its_counts_and_told_its_reach_by_category(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("component,category,count,printed_pct\nFaulty GPU,GPU,148,30.1\nSilent Data Corruption,GPU,6,1.4\nSwitch,Network,35,8.4\n")
    table = read_failures(tmp_path / "f.csv", num_gpus=100, days=2.0)
    assert [row.reach for row in table.classes] == ["server", "job", "job"]
    assert table.rates(50).server == pytest.approx(148 / (2 * 2 * 86400))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("component,count\nGPU,1\n", "no column category"),
        ("component,category,count\nGPU,GPU,many\n", "f.csv:2: found count 'many'"),
        ("component,category,count\nGPU,GPU,-3\n", "expected a whole number"),
        ("component,category,count,reach\nGPU,GPU,3,world\n", "server or job"),
        ("", "found nothing"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=fault):
        read_failures(tmp_path / "f.csv", num_gpus=8, days=1.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_failures(tmp_path / "none.csv", num_gpus=8, days=1.0)


def test_rates_of_zero_or_less_are_refused() -> None:
    with pytest.raises(SettingsError, match="counts no failure in 3 days"):
        FailureTable(name="quiet", num_gpus=8, days=3.0, classes=[FailureClass(component="GPU", category="GPU", count=0, reach="server")])
    with pytest.raises(SettingsError, match="never come"):
        _ = Rates().mean_time_between_failures
    with pytest.raises(SettingsError, match=r"rates.job: found -1, expected events a second, 0 or more"):
        Rates(job=-1.0)
    with pytest.raises(SettingsError, match=r"failures.days: found 0"):
        FailureTable(name="none", num_gpus=8, days=0.0, classes=LLAMA3.classes)
