"""The picture of a plan: what fills a GPU's memory in the first splits, and one step of the fastest in time, stage by stage. One SVG that stands alone.

With a pipeline the timeline is its schedule, forwards and backwards as blocks and the bubble as what is left empty; without one it is the micro-batches, each
by what takes its time. Where a step has many micro-batches the middle is left out, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from herdling.base.units import format_seconds
from herdling.plan.hardware import Gpu
from herdling.plan.layout import Candidate
from herdling.plan.memory import Memory
from herdling.plan.split import Job, Split
from herdling.plan.throughput import Forecast
from herdling.plan.timeline import Block, micro_batch_seconds, pipeline_blocks
from herdling.report.standalone import standalone

WIDTH, LEFT, RIGHT = 400.0, 92.0, 20.0
ROW = 22.0
LETTER = 5.8
"""Width of a bold letter on average."""
SPACE = WIDTH - LEFT - RIGHT
GAP = 22.0
"""Where micro-batches are left out."""
MAX_ROUNDS = 3
"""Micro-batches that are drawn, in multiples of the stages."""
MAX_MICRO_BATCHES = 4
"""The same without a pipeline: two at the beginning and two at the end."""
MAX_STAGES, STAGES_HEIGHT = 16, 168.0
"""Of more stages, some are drawn."""
NUM_SPLITS = 5
MEMORY = (("weights", 0), ("gradients", 1), ("optimizer", 2), ("activations", 3), ("logits", 4), ("reserve", 5))
WORK = (("compute", 2), ("memory", 3), ("communication", 1), ("optimizer", 4))
PIPELINE = (("forward", 2), ("backward", 3), ("exchange", 1), ("optimizer", 4))


def plan_picture(job: Job, gpu: Gpu, candidates: Sequence[Candidate], title: str) -> str:
    """Draw the memory of the first splits that differ in their groups, and the step of the very first."""
    svg = ET.Element("svg", {"role": "img", "aria-label": title})
    ET.SubElement(svg, "title").text = title
    _text(svg, title, 0, 14, style="title")
    first = {name_of(one.split): one for one in reversed(candidates)}
    differing = sorted(first.values(), key=candidates.index)[:NUM_SPLITS]
    height = _draw_memory(svg, gpu, differing, top=24)
    height = _draw_step(svg, job, candidates[0], top=height + 14)
    svg.set("viewBox", f"-4 -4 {WIDTH + 8:g} {height + 8:g}")
    return standalone(ET.tostring(svg, encoding="unicode"), [])


def parts_of(memory: Memory) -> dict[str, float]:
    """Return the GiB of each drawn part; what the allocator holds beyond what is asked goes with the reserve."""
    parts = {name: getattr(memory, name) / 2**30 for name, _ in MEMORY}
    parts["reserve"] = memory.total / 2**30 - sum(value for name, value in parts.items() if name != "reserve")
    return parts


def _draw_memory(svg: ET.Element, gpu: Gpu, candidates: Sequence[Candidate], top: float) -> float:
    top = _legend(svg, f"Memory of a GPU, {gpu.memory_gib:.0f} GiB", [(name, colour) for name, colour in MEMORY if _any(candidates, name)], top)
    for number, one in enumerate(candidates):
        y = top + ROW * number
        _text(svg, name_of(one.split), LEFT - 6, y + 12, anchor="end")
        x = LEFT
        for (name, colour), gib in zip(MEMORY, parts_of(one.memory).values(), strict=True):
            width = gib / gpu.memory_gib * SPACE
            _rect(svg, x, y + 2, width, ROW - 7, colour, f"{name} {gib:.1f} GiB")
            x += width
        _text(svg, f"{one.memory.total / 2**30:.0f}", x + 4, y + 12)
    bottom = top + ROW * len(candidates)
    ET.SubElement(svg, "rect", {"x": f"{LEFT:g}", "y": f"{top:g}", "width": f"{SPACE:g}", "height": f"{bottom - top - 2:g}", "class": "grid", "fill": "none"})
    return bottom


def _any(candidates: Sequence[Candidate], name: str) -> bool:
    return any(parts_of(one.memory)[name] > 0 for one in candidates)


def name_of(split: Split) -> str:
    """Return a split in a few letters: TP 8, CP 2, PP 16; DP alone where it is all."""
    named = [f"{name.upper()} {getattr(split, name)}" for name in ("tp", "cp", "pp") if getattr(split, name) > 1]
    return " ".join(named) or (f"DP {split.dp}" if split.dp > 1 else "1 GPU")


def _draw_step(svg: ET.Element, job: Job, one: Candidate, top: float) -> float:
    split, step = one.split, one.forecast
    count = split.micro_batches(job)
    heading = f"One step of {name_of(split)}: {format_seconds(step.seconds)}, {count} micro-batch{'es' * (count > 1)} a copy"
    if split.pp == 1:
        return _draw_micro_batches(svg, job, split, step, _legend(svg, heading, WORK, top))
    return _draw_stages(svg, job, split, step, _legend(svg, f"{heading}; empty is bubble", PIPELINE, top))


def _draw_stages(svg: ET.Element, job: Job, split: Split, step: Forecast, top: float) -> float:
    """Draw the blocks of each stage, then exchange and optimiser; the middle of a long step is left out."""
    count = split.micro_batches(job)
    drawn = count if count <= MAX_ROUNDS * split.pp else MAX_ROUNDS * split.pp
    forward, backward = micro_batch_seconds(job, split, step)
    blocks = pipeline_blocks(split.pp, drawn, split.virtual_stages, forward, backward)
    end = max(block.end for block in blocks)
    cut = end / 2 if drawn < count else None
    shown = [split.pp * number // min(split.pp, MAX_STAGES) for number in range(min(split.pp, MAX_STAGES) - 1)] + [split.pp - 1]
    row = min(ROW - 6, STAGES_HEIGHT / len(shown))
    scale = (SPACE - (GAP if cut else 0)) / (end + step.exchange + step.optimizer)
    for kind, colour in ((True, 2), (False, 3)):
        d = "".join(
            _strokes([block for block in blocks if block.stage == stage and block.is_forward is kind], cut, scale, top + row * (number + 0.5))
            for number, stage in enumerate(shown)
        )
        ET.SubElement(svg, "path", {"class": f"line colour-{colour}", "style": f"stroke-width:{max(0.8, row - 1):.1f}", "d": d})
    x = LEFT + end * scale + (GAP if cut else 0)
    bottom = top + row * len(shown)
    _rect(svg, x, top, step.exchange * scale, bottom - top, 1, f"exchange {step.exchange:.2f} s")
    _rect(svg, x + step.exchange * scale, top, step.optimizer * scale, bottom - top, 4, f"optimizer {step.optimizer:.2f} s")
    for number in {0, len(shown) - 1}:
        _text(svg, f"stage {shown[number] + 1}", LEFT - 6, top + row * (number + 0.5) + 4, anchor="end")
    if cut:
        _text(svg, "...", LEFT + cut * scale + GAP / 2, (top + bottom) / 2, anchor="middle")
    more = f", {split.pp - len(shown)} stages" * (len(shown) < split.pp) + f", {count - drawn} micro-batches" * (cut is not None)
    more += " not drawn" * bool(more)
    return _foot(svg, step.seconds, bottom, f"bubble {step.bubble / step.seconds:.0%}{more}")


def _strokes(blocks: Sequence[Block], cut: float | None, scale: float, y: float) -> str:
    """Return a stage's blocks of one kind as strokes of a path; what comes after the cut stands behind the gap, and a block that crosses it ends there."""
    strokes, at = f"M{LEFT:g} {y:.1f}", LEFT
    for block in blocks:
        end = cut if cut is not None and block.begin < cut < block.end else block.end
        x = LEFT + block.begin * scale + (GAP if cut is not None and block.begin >= cut else 0)
        width = (end - block.begin) * scale
        width -= min(0.4, width / 4)  # a hair between neighbours
        strokes += f"m{x - at:.2f} 0h{width:.2f}"
        at += round(x - at, 2) + round(width, 2)
    return strokes


def _draw_micro_batches(svg: ET.Element, job: Job, split: Split, step: Forecast, top: float) -> float:
    """Draw micro-batches one after another, each by what takes its time, then exchange and optimiser."""
    count = split.micro_batches(job)
    drawn = count if count <= MAX_MICRO_BATCHES else MAX_MICRO_BATCHES
    each = [step.compute / count, step.memory / count, (step.communication - step.exchange) / count]
    gap = GAP if drawn < count else 0.0
    scale = (SPACE - gap) / (drawn * sum(each) + step.exchange + step.optimizer)
    x = LEFT
    for number in range(drawn):
        if gap and number == drawn // 2:
            _text(svg, "...", x + gap / 2, top + 16, anchor="middle")
            x += gap
        for (name, colour), seconds in zip(WORK, each, strict=False):
            _rect(svg, x, top, max(0.0, seconds * scale - (0.6 if name == "communication" else 0)), 24, colour, f"{name} {seconds:.3f} s")
            x += seconds * scale
    _rect(svg, x, top, step.exchange * scale, 24, 1, f"communication {step.exchange:.3f} s")
    _rect(svg, x + step.exchange * scale, top, step.optimizer * scale, 24, 4, f"optimizer {step.optimizer:.3f} s")
    _text(svg, "every GPU", LEFT - 6, top + 16, anchor="end")
    return _foot(svg, step.seconds, top + 24, f"{count - drawn} micro-batches not drawn" if gap else "")


def _foot(svg: ET.Element, seconds: float, bottom: float, note: str) -> float:
    """Write begin and end of the step below it, and what there is to say."""
    _text(svg, "0", LEFT, bottom + 14)
    _text(svg, format_seconds(seconds), LEFT + SPACE, bottom + 14, anchor="end")
    _text(svg, note, LEFT + SPACE / 2, bottom + 14, anchor="middle", style="unit")
    return bottom + 18


def _legend(svg: ET.Element, heading: str, names: Sequence[tuple[str, int]], top: float) -> float:
    """Write a heading, and below it the names in their colours; return where the drawing may begin."""
    _text(svg, heading, 0, top + 11)
    x, y = 0.0, top + 18
    for name, colour in names:
        width = 20 + LETTER * len(name)
        if x + width > WIDTH + 10:
            x, y = 0.0, y + 14
        _rect(svg, x, y, 9, 9, colour, name)
        _text(svg, name, x + 12, y + 9, style=f"name colour-{colour}")
        x += width
    return y + 18


def _rect(svg: ET.Element, x: float, y: float, width: float, height: float, colour: int, label: str) -> None:
    if width <= 0:
        return
    places = {"x": x, "y": y, "width": width, "height": height}
    rect = ET.SubElement(svg, "rect", {"class": f"dot colour-{colour}", **{name: f"{place:.1f}" for name, place in places.items()}})
    ET.SubElement(rect, "title").text = label


def _text(svg: ET.Element, text: str, x: float, y: float, *, anchor: str = "start", style: str = "label") -> None:
    ET.SubElement(svg, "text", {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = text
