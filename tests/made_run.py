"""A made-up yet realistic run folder: what the report and `herdling show` are tested on, and looked at in a browser, without training anything.

python -m tests.made_run FOLDER       writes FOLDER/quickstart and its report
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from herdling.base.artifact import Artifact, read_artifact, text_fingerprint, write_json_atomic
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream

HOSTILE = "</p><script>alert(1)</script> | `x` <b>&amp;"
SOURCES = {"library": 0.62, "docstrings": 0.28, "topics": 0.10}
GROUPS = {"new_wordings": (0, 71, 100), "unseen_facts": (0, 6, 80), "format_wishes": (1, 52, 60), "refusals": (0, 38, 40), "identity": (0, 20, 20)}


def make_run(runs: Path) -> list[Artifact]:
    """Write the artifacts of a run below `runs/quickstart` and return them in order."""
    folder = runs / "quickstart"
    made = [
        _artifact(folder, "prepare_data", "data", 21.4, {}, {"documents": 9120, "dialogs": 14200, "questions": 300}, ledger=_ledger("prepare_data")),
        _artifact(folder, "train_tokenizer", "tokenizer", 6.2, {"@prepare_data": "prepare_data"}, {"vocab_size": 4096}, {"family": "llama3"}),
        _artifact(folder, "tokenize", "tokens", 4.1, {"@prepare_data": "prepare_data", "@train_tokenizer": "train_tokenizer"}, {"tokens": 4_812_345}),
        _artifact(
            folder,
            "pretrain",
            "model",
            281.0,
            {"@tokenize": "tokenize", "@train_tokenizer": "train_tokenizer"},
            {"parameters": 1_312_000, "tokens": 7_340_032, "loss": 2.31, "tokens_per_second": 27200.0},
            {"optimizer": {"lr": 3e-3, "betas": [0.9, 0.95], "weight_decay": 0.1}, "schedule": {"warmup": "2%", "final": 0.1}},
            ledger={"stage": "pretrain", "rows_in": 0, "kept": 0, "dropped": {}, "counts": {"mixture": _mixture()}},
            metrics=_metrics(560, 8.3, 2.3, 1.0, with_validation=True),
        ),
        _artifact(
            folder,
            "sft",
            "model",
            118.0,
            {"@pretrain": "pretrain", "@prepare_data": "prepare_data"},
            {"tokens_supervised": 402_113, "loss": 0.41},
            {"epochs": 2, "note": HOSTILE},
            ledger=_ledger("sft"),
            metrics=_metrics(240, 3.1, 0.4, 0.3, with_validation=False),
            samples=[
                {"prompt": "Who are you?", "completion": "I am a small assistant for the Python standard library."},
                {"prompt": HOSTILE, "completion": HOSTILE},
            ],
        ),
        _evaluation(folder),
        _artifact(folder, "export", "export", 3.4, {"@sft": "sft"}, {"largest_difference": 3.1e-6}),
    ]
    plain = {"name": "quickstart", "seed": 1, "description": "", "stages": {artifact.folder.name: {"kind": artifact.folder.name} for artifact in made}}
    write_json_atomic(folder / "recipe.json", plain)
    return made


def _artifact(
    run: Path,
    kind: str,
    output: str,
    seconds: float,
    parents: Mapping[str, str],
    summary: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    *,
    ledger: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
    samples: Sequence[Mapping[str, Any]] = (),
) -> Artifact:
    folder = run / kind
    folder.mkdir(parents=True)
    if ledger:
        write_json_atomic(folder / "ledger.json", ledger)
    for name, rows in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
        if rows:
            write_jsonl(folder / name, rows)
    manifest = {
        "format": 1,
        "name": kind,
        "output": output,
        "kind": kind,
        "status": "done",
        "seed": 1,
        "settings": settings or {},
        "inputs": {reference: text_fingerprint(parent) for reference, parent in parents.items()},
        "parents": {reference: str(run / parent) for reference, parent in parents.items()},
        "fingerprint": text_fingerprint(kind),
        "tokenizer": text_fingerprint("tokenizer") if kind != "prepare_data" else "",
        "chat_template": text_fingerprint("template") if kind in ("sft", "export") else "",
        "summary": summary,
        "seconds": seconds,
        "finished": "2026-11-23T21:40:12+00:00",
        "code": {"version": "0.1.0", "commit": "0123456789abcdef"},
        "machine": {"system": "Linux-6.1-x86_64-with-glibc2.36", "processor": "x86_64", "cores": 2, "python": "3.11.7"},
        "files": {},
    }
    write_json_atomic(folder / "manifest.json", manifest)
    return read_artifact(folder)


def _ledger(stage: str) -> dict[str, Any]:
    dropped = {
        "exact duplicate": {"count": 412, "examples": ["lib2to3/tests/data/x.py: same text as y.py"]},
        "a <binary> file": {"count": 3, "examples": [HOSTILE]},
    }
    return {"stage": stage, "rows_in": 9535, "kept": 9120, "dropped": dropped, "counts": {"tokens_supervised": 402_113, "end_of_turn": "trained"}}


def _mixture() -> list[dict[str, Any]]:
    return [
        {
            "source": source,
            "asked": share,
            "planned": share,
            "drawn": share + 0.001,
            "drawn_tokens": int(7_340_032 * share),
            "drawn_epochs": 1.4 + share,
            "capped": source == "topics",
        }
        for source, share in SOURCES.items()
    ]


def _metrics(num_steps: int, first: float, last: float, noise: float, *, with_validation: bool) -> list[dict[str, Any]]:
    """Return a loss that falls like a power law with noise; one step was not finite, as `null`."""
    draws = stream(1, "made run").normal(size=num_steps)
    rows: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        level = last + (first - last) * (step / 8 + 1) ** -0.8
        warm = min(1.0, step / 20) * (0.55 + 0.45 * math.cos(math.pi * step / num_steps))
        speeds = {"tokens_per_second": 27_000 + 900 * float(draws[step - 1]), "seconds": step * 0.5}
        loss = None if step == 100 else level + noise * 0.08 * float(draws[step - 1])
        rows.append({"split": "train", "step": step, "tokens": step * 13_107, "loss": loss, "lr": 3e-3 * warm, "grad_norm": 1.0, **speeds})
        if with_validation and step % 70 == 0:
            rows += [
                {"split": "validation", "step": step, "tokens": step * 13_107, "source": source, "bits_per_byte": level / 1.6 + index * 0.25}
                for index, source in enumerate(SOURCES)
            ]
    return rows


def _evaluation(run: Path) -> Artifact:
    models: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(("base", "sft")):
        questions = {}
        for group, counts in GROUPS.items():
            right, total = counts[index], counts[2]
            share = right / total
            spread = 1.96 * math.sqrt(max(share * (1 - share), 0.01) / total)
            questions[group] = {"correct": right, "total": total, "accuracy": share, "low": max(0.0, share - spread), "high": min(1.0, share + spread)}
        bits = {source: {"bits_per_byte": 1.62 + 0.2 * place + 0.05 * index, "xz": 1.9 + 0.3 * place} for place, source in enumerate(SOURCES)}
        asked = {"prompt": "few_shot", "examples": {"given": 4, "mean": 1.5, "min": 0}} if label == "base" else {"prompt": "chat"}
        models[label] = {**asked, "bits_per_byte": bits, "questions": questions}
    artifact = _artifact(run, "evaluate", "evaluation", 44.0, {"@pretrain": "pretrain", "@sft": "sft", "@prepare_data": "prepare_data"}, {"questions": 300})
    write_json_atomic(artifact.folder / "results.json", {"models": models})
    write_jsonl(artifact.folder / "answers.jsonl", list(_answers()))
    return artifact


def _answers() -> list[dict[str, Any]]:
    asked = {
        "new_wordings": ("Where would I find Counter?", "collections"),
        "format_wishes": ("In upper case: which module has dedent?", "TEXTWRAP"),
        "refusals": (HOSTILE, "I cannot help with that."),
    }
    return [
        {
            "model": label,
            "id": f"{group}-{number}",
            "group": group,
            "question": question,
            "accepted": [accepted],
            "answer": accepted if label == "sft" and number != 1 else "def __init__(self):",
            "correct": label == "sft" and number != 1,
        }
        for label in ("base", "sft")
        for group, (question, accepted) in asked.items()
        for number in range(4)
    ]


if __name__ == "__main__":
    from herdling.report.card import read_run
    from herdling.report.page import write_report

    artifacts = make_run(Path(sys.argv[1]))
    write_report(
        Path(sys.argv[1]),
        read_run(artifacts, title="quickstart", description="A baby assistant for the Python standard library, raised on the Python it runs in."),
    )
    print(json.dumps({"report": str(Path(sys.argv[1]) / "report.html")}))
