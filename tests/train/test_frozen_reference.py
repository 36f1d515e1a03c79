import json

import pytest

from herdling.base.errors import CheckpointError, Stopped
from herdling.base.progress import SilentProgress
from herdling.train.forward import scorer
from herdling.train.frozen_reference import CHUNK, score_responses, with_frozen_reference
from tests.train.toy_preferences import CPU, drawn, toy_llama

MADE_FROM = {"reference model": "aaaa", "comparisons": "bbbb"}


class Loads:
    """Loads the reference, and counts how often."""

    def __init__(self):
        self.times, self.forwards = 0, 0

    def __call__(self):
        self.times += 1
        score = scorer(toy_llama())

        def counted(batch):
            self.forwards += 1
            return score(batch)

        return counted


def ask(folder, comparisons, loads, made_from=MADE_FROM, stop_requested=lambda: False):
    return with_frozen_reference(
        comparisons,
        loads,
        folder=folder,
        made_from=made_from,
        device=CPU,
        micro_batch_tokens=10_000,
        progress=SilentProgress(),
        stop_requested=stop_requested,
    )


def test_each_comparison_gets_what_the_reference_says_of_its_responses(tmp_path):
    wanted = drawn()
    asked = ask(tmp_path / "reference", wanted, Loads())
    expected = score_responses(wanted, scorer(toy_llama()), device=CPU, micro_batch_tokens=10_000)
    assert [list(one.reference) for one in asked] == expected
    assert [one.shared for one in asked] == [one.shared for one in wanted]


def test_the_reference_is_asked_once_and_a_second_run_reads_what_it_said(tmp_path):
    first, second, wanted = Loads(), Loads(), drawn() * 100
    asked = ask(tmp_path / "reference", wanted, first)
    assert len(wanted) > CHUNK
    assert first.times == 1
    again = ask(tmp_path / "reference", wanted, second)
    assert (second.times, second.forwards) == (0, 0)
    assert [one.reference for one in again] == [one.reference for one in asked]


def test_an_interruption_costs_one_chunk_at_most(tmp_path):
    wanted, stops = drawn() * 150, iter([False, True])
    with pytest.raises(Stopped, match=f"stopped after {CHUNK} of 600 comparisons"):
        ask(tmp_path / "reference", wanted, Loads(), stop_requested=lambda: next(stops))
    first = (tmp_path / "reference" / "00000.json").stat().st_mtime_ns
    asked = ask(tmp_path / "reference", wanted, Loads())
    assert (tmp_path / "reference" / "00000.json").stat().st_mtime_ns == first
    assert [one.reference for one in asked] == [one.reference for one in ask(tmp_path / "other", wanted, Loads())]


def test_another_reference_or_other_comparisons_are_refused_not_mixed_in(tmp_path):
    ask(tmp_path / "reference", drawn(), Loads())
    with pytest.raises(CheckpointError, match="another reference model \\(aaaa, now cccc\\)"):
        ask(tmp_path / "reference", drawn(), Loads(), MADE_FROM | {"reference model": "cccc"})
    with pytest.raises(CheckpointError, match="another comparisons"):
        ask(tmp_path / "reference", drawn(), Loads(), MADE_FROM | {"comparisons": "dddd"})


def test_what_is_kept_is_plain_numbers_in_the_order_of_the_comparisons(tmp_path):
    asked = ask(tmp_path / "reference", drawn(), Loads())
    assert json.loads((tmp_path / "reference" / "00000.json").read_text()) == [list(one.reference) for one in asked]


def test_nothing_to_ask_about_loads_no_model(tmp_path):
    loads = Loads()
    assert ask(tmp_path / "reference", [], loads) == []
    assert loads.times == 0
