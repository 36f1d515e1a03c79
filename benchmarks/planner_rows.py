"""One published configuration of a large training run as the planner sees it: a row of the file to `Job`, `Split`, `Stack`, `Gpu` and what was measured.

What the software of each publisher does with memory is told here from its own documents, not from the measurements: these are descriptions, not fitted numbers.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from herdling.base.errors import DataError, SettingsError
from herdling.model.config import LlamaConfig
from herdling.plan.hardware import Gpu, find_gpu
from herdling.plan.memory import training_memory
from herdling.plan.split import Attention, Job, Precision, Recompute, Scales, Sharding, Split, Stack
from herdling.plan.stacks import STACKS
from herdling.plan.throughput import flops_per_token

COLUMNS = (
    *("source", "model", "arch", "layers", "dim", "heads", "kv_heads", "ffn", "vocab", "tied", "seq", "global_batch", "gpus", "gpu_kind", "inter_bw_GBps"),
    *("tp", "sp", "cp", "pp", "vpp", "dp", "fsdp_kind", "microbatch", "activation_checkpointing", "precision", "compile_kernel"),
    *("step_time_s", "tokens_per_s_per_gpu", "tflops_per_gpu", "mfu", "memory_GB", "status"),
)
SHARED_NIC = 25.0 / 8
"""GB/s a GPU of Aleph-Alpha, read from its step times: one link of 200 Gb/s a server explains what copies cost there, one a GPU (the file) does not."""
PUBLISHERS = {
    "Aleph-Alpha": "aleph-alpha",
    "mosaicml": "mosaicml",
    "torchtitan": "torchtitan",
    "Llama 3": "llama3",
    "NVIDIA-NeMo": "megatron-bridge",
    "NVIDIA/NeMo": "nemo",
    "Korthikanti": "korthikanti",
    "MT-NLG": "mt-nlg",
}
"""How a source begins -> its short name."""
CONFIGURATION = COLUMNS[1 : COLUMNS.index("step_time_s")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A configuration that someone ran; `seconds` of a step and `memory_gib` where they were published, `fits` unless it ended otherwise."""

    id: str
    source: str
    job: Job
    split: Split
    stack: Stack
    gpu: Gpu
    kernel: str
    fits: bool | None
    seconds: float | None
    memory_gib: float | None
    reported: Mapping[str, str]

    @property
    def held_out(self) -> bool:
        """Which half of a file the row is of, by a hash of its configuration, not of its result: rows of one configuration are of one half."""
        told = [self.reported[name] for name in CONFIGURATION]
        return hashlib.sha256(repr((self.source, told)).encode()).digest()[0] % 2 == 1


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Read a planner file, plain or .gz; return what can be planned, and why each other row cannot. Raises `DataError` for a file without the columns."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}; accepted: the columns {', '.join(COLUMNS)}")
    rows, refused = [], []
    for number, cells in enumerate(reader, start=2):
        try:
            rows.append(planned({name: value or "" for name, value in cells.items() if name}))
        except (SettingsError, ValueError, ArithmeticError) as error:
            refused.append(f"line {number}, {cells['model']}: {error}")
    return rows, refused


def planned(cells: Mapping[str, str]) -> Row:
    """Return a row as the planner sees it. Raises `SettingsError` or `ValueError` for one whose split or GPU is not told."""
    job = _job(cells)
    source, kernel = publisher(cells["source"]), cells["compile_kernel"]
    split = _split(cells)
    gpu = _gpu(cells, source)
    stack = _stack(cells, software(cells, source), split)
    if cells["activation_checkpointing"] == "not stated":
        split = _least_recompute(job, split, stack, gpu)
    fits = {"ok": True, "OOM": False}.get(cells["status"])
    return Row(
        id=cells.get("id", ""),
        source=source,
        job=job,
        split=split,
        stack=stack,
        gpu=gpu,
        kernel=kernel,
        fits=fits,
        seconds=_seconds(cells, source, job) if fits else None,
        memory_gib=_number(cells, "memory_GB"),
        reported=cells,
    )


def publisher(source: str) -> str:
    """Return a short name of who published a row."""
    for start, name in PUBLISHERS.items():
        if source.startswith(start):
            return name
    return source.split()[0].split("@")[0].lower() if source else "unnamed"


def software(cells: Mapping[str, str], source: str) -> str:
    """Return the publisher whose software a row ran: its own, or where the publisher is not known here, one that shares states among copies in the same way."""
    if source in PUBLISHERS.values():
        return source
    ways = {"fsdp2": "torchtitan", "fsdp1": "mosaicml", "distributed optimizer": "megatron-bridge", "megatron": "megatron-bridge", "zero1": "aleph-alpha"}
    return next((name for way, name in ways.items() if way in cells["fsdp_kind"]), source)


def _number(cells: Mapping[str, str], name: str) -> float | None:
    return float(cells[name]) if cells[name] else None


def _count(cells: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = _number(cells, name)
    if value is None and default is None:
        raise ValueError(f"{name} was not published")
    return round(value if value is not None else default or 0)


def _job(cells: Mapping[str, str]) -> Job:
    gelu = not cells["arch"].startswith("llama")
    width = _count(cells, "ffn")
    model = LlamaConfig(
        vocab_size=_count(cells, "vocab"),
        hidden_size=_count(cells, "dim"),
        intermediate_size=round(2 * width / 3) if gelu else width,
        num_hidden_layers=_count(cells, "layers"),
        num_attention_heads=_count(cells, "heads"),
        num_key_value_heads=_count(cells, "kv_heads"),
        head_dim=_count(cells, "dim") // _count(cells, "heads"),
        tie_word_embeddings=_count(cells, "tied", 0) == 1,
    )
    text = cells["precision"].lower()
    precision: Precision = "fp4" if "fp4" in text else "fp8" if "fp8" in text else "bf16"
    feed_forward: Literal["gelu", "swiglu"] = "gelu" if gelu else "swiglu"
    return Job(model=model, seq_len=_count(cells, "seq"), global_batch=_count(cells, "global_batch"), precision=precision, feed_forward=feed_forward)


def _split(cells: Mapping[str, str]) -> Split:
    checkpointing, kind = cells["activation_checkpointing"], cells["fsdp_kind"]
    recompute: Recompute = "full" if checkpointing == "full" else "selective" if checkpointing == "selective-op" else "none"
    sharding: Sharding = "none"
    if "zero2" in kind or "GRAD_OP" in kind:
        sharding = "zero2"
    elif "fsdp" in kind or "zero3" in kind:
        sharding = "zero3"
    elif "zero1" in kind:
        sharding = "zero1"
    return Split(
        tp=_count(cells, "tp"),
        cp=_count(cells, "cp", 1),
        pp=_count(cells, "pp", 1),
        dp=_count(cells, "dp"),
        micro_batch=_count(cells, "microbatch", 1),
        virtual_stages=_count(cells, "vpp", 8 if cells["source"].startswith("Llama 3") else 1),  # interleaved, V not told: 126 + 2 layers on 16 stages
        recompute=recompute,
        sharding=sharding,
        sequence_parallel=_count(cells, "sp", 0 if cells["source"].startswith("MT-NLG") else 1) == 1,  # older than sequence parallelism
    )


def _gpu(cells: Mapping[str, str], source: str) -> Gpu:
    name = "h100-96gb" if source == "torchtitan" and cells["gpu_kind"] == "H100" else cells["gpu_kind"]
    nic = SHARED_NIC if source == "aleph-alpha" else _number(cells, "inter_bw_GBps")
    return find_gpu(name, nic_gb_per_s=nic)


def _stack(cells: Mapping[str, str], source: str, split: Split) -> Stack:
    """Return the publisher's software. A loss takes 14 bytes a logit in plain PyTorch, 22 cut or gathered over ranks."""
    kernel = cells["compile_kernel"]
    if source == "torchtitan":
        compiled_loss = "2025" in cells["source"] or cells["gpu_kind"] == "H200"
        bytes_a_logit = STACKS["torchtitan"].logit_bytes if compiled_loss else 22.0 if split.tp > 1 else 14.0
        return replace(STACKS["torchtitan"], logit_bytes=bytes_a_logit, async_tp="async" in kernel, fused_norms="eager" not in kernel, scales=_scales(cells))
    if source == "mosaicml":
        return replace(STACKS["llm-foundry"], gradient_bytes=2 if "PURE" in cells["precision"] else 4)
    if source in ("megatron-bridge", "nemo"):
        return replace(STACKS["megatron"], scales=_scales(cells))
    if source == "llama3":
        return STACKS["llama3"]
    megatron = Stack(data_outermost=False, attention=_attention(kernel), scales=_scales(cells))  # and its relatives
    if source == "aleph-alpha":
        scores = {"unfused": 2.0 if kernel == "fused" else 5.0}.get(megatron.attention, 0.0)
        return replace(
            megatron, gradient_bytes=2, score_bytes=scores, fused_norms="RMS" in kernel, vocab_parallel=False, logit_bytes=22.0, micro_batches_ahead=1
        )
    if source in ("korthikanti", "mt-nlg"):  # their selective recomputation makes the scores again
        return replace(megatron, attention="unfused", gradient_bytes=2 if source == "korthikanti" else 4)
    return megatron


def _attention(kernel: str) -> Attention:
    if kernel in ("fused", "torch"):
        return "unfused"
    return "flash1" if "attentionv1" in kernel else "flash2"


def _scales(cells: Mapping[str, str]) -> Scales:
    text = cells["precision"].lower()
    return "row" if "rowwise" in text else "block" if "mx" in text or "fp4" in text else "tensor"


def _least_recompute(job: Job, split: Split, stack: Stack, gpu: Gpu) -> Split:
    """Return the split with the least recomputation that fits, where the publisher left it open."""
    choices: tuple[Recompute, ...] = ("none", "selective", "full")
    for recompute in choices:
        tried = replace(split, recompute=recompute)
        if training_memory(job, tried, stack).total <= gpu.memory_gib * 2**30:
            return tried
    return replace(split, recompute="full")


def _seconds(cells: Mapping[str, str], source: str, job: Job) -> float | None:
    """Return the step time, told directly or through tokens or TFLOPs a second. NeMo of 2024 counted all of attention, others the causal half."""
    seconds, rate, tflops = (_number(cells, name) for name in ("step_time_s", "tokens_per_s_per_gpu", "tflops_per_gpu"))
    if seconds:
        return seconds
    if not rate and tflops:
        rate = tflops * 1e12 / flops_per_token(job, "full" if source == "nemo" else "causal")
    return job.tokens / rate / _count(cells, "gpus") if rate else None
