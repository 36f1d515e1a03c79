"""The picture of a plan: what is in it, and that it is to scale."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from herdling.model.presets import preset
from herdling.plan.hardware import find_gpu
from herdling.plan.layout import Candidate, search
from herdling.plan.memory import training_memory
from herdling.plan.split import Job, Split, Stack
from herdling.plan.throughput import forecast
from herdling.report.plan_picture import SPACE, name_of, parts_of, plan_picture

H100 = find_gpu("h100")
JOB = Job(model=preset("llama3-70b"), seq_len=8192, global_batch=256)
SVG = "{http://www.w3.org/2000/svg}"


def candidate(split: Split) -> Candidate:
    return Candidate(split=split, memory=training_memory(JOB, split, Stack()), forecast=forecast(JOB, split, Stack(), H100))


def drawn(*splits: Split) -> ET.Element:
    return ET.fromstring(plan_picture(JOB, H100, [candidate(split) for split in splits], "a plan of <70B>"))


def test_bars_of_memory_are_to_scale() -> None:
    one = candidate(Split(tp=8, pp=4, dp=2))
    titles = {title.text: float(rect.get("width", "0")) for rect in drawn(one.split).iter(f"{SVG}rect") for title in rect.iter(f"{SVG}title")}
    for name, gib in parts_of(one.memory).items():
        if gib:
            assert titles[f"{name} {gib:.1f} GiB"] == pytest.approx(gib / H100.memory_gib * SPACE, abs=0.06)
    assert sum(parts_of(one.memory).values()) == pytest.approx(one.memory.total / 2**30)


def test_a_pipeline_is_drawn_block_by_block() -> None:
    picture = drawn(Split(tp=8, pp=4, dp=32))  # 8 micro-batches
    forwards, backwards = (path.get("d", "") for path in picture.iter(f"{SVG}path"))
    assert forwards.count("h") == backwards.count("h") == 4 * 8
    words = " ".join(text.text or "" for text in picture.iter(f"{SVG}text"))
    for word in ("stage 1", "stage 4", "forward", "exchange", "bubble", "a plan of <70B>"):
        assert word in words
    assert "not drawn" not in words


def test_many_micro_batches_and_stages_are_left_out_and_said() -> None:
    text = plan_picture(JOB, H100, [candidate(Split(tp=1, pp=40, dp=1, virtual_stages=2))], "long")
    assert "24 stages, 136 micro-batches not drawn" in text
    assert len(text) < 100_000


def test_without_a_pipeline_micro_batches_stand_one_after_another() -> None:
    picture = drawn(Split(dp=64, recompute="full"))
    words = " ".join(text.text or "" for text in picture.iter(f"{SVG}text"))
    assert "DP 64" in words
    assert "every GPU" in words
    ends = [float(rect.get("x", "0")) + float(rect.get("width", "0")) for rect in picture.iter(f"{SVG}rect")]
    assert max(ends) <= 400


def test_each_choice_of_groups_is_drawn_once() -> None:
    found = search(JOB, 64, H100).candidates
    names = re.findall(r">((?:TP|CP|PP|DP) [^<:]*)</text>", plan_picture(JOB, H100, found, "x"))
    assert names == list(dict.fromkeys(name_of(one.split) for one in found))[:5]
