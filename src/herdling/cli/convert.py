"""`herdling convert ARTIFACT --to FORM FILE`: the comparisons of an artifact as rows that other projects read.

Reads an artifact of comparisons (a frozen round, an import, the output of collect or rejection_sampling); writes one .jsonl file, also .jsonl.gz or
.jsonl.zst. What a form cannot say is left out, and named. Starts without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from herdling.base.artifact import read_artifact
from herdling.base.comparison_records import read_comparisons
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.data.comparison_formats import WRITABLE, export_comparisons
from herdling.preference.rating import MARGINS


def convert(
    path: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="An artifact of comparisons.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write: .jsonl, .jsonl.gz or .jsonl.zst.")],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help=f"One of {', '.join(WRITABLE)}.")],
    split: Annotated[str, typer.Option("--split", help="train or test.")] = "train",
    margins: Annotated[str | None, typer.Option("--margins", help="Write ratings as TRL's margins: none, small or large.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the ledger for a program.")] = False,
) -> None:
    """Write the comparisons of an artifact in another project's form."""
    table = next((table for name, table in MARGINS.items() if name == margins), None)
    if margins is not None and table is None:
        raise SettingsError(f"--margins: found {margins!r}, accepted: {', '.join(MARGINS)}")
    if ".jsonl" not in file.suffixes[-2:]:
        raise DataError(f"{file}: comparisons are written as .jsonl, .jsonl.gz or .jsonl.zst; found the ending {file.suffix!r}")
    artifact = read_artifact(path)
    if artifact.kind not in ("comparisons", "samples"):
        raise DataError(
            f"{path}: an artifact of kind {artifact.kind}, expected comparisons or samples:"
            " a closed round, or the output of prepare_comparisons, collect or rejection_sampling"
        )
    ledger = Ledger(f"convert to {to}")
    count = export_comparisons(file, read_comparisons(path, split), to, ledger, margins=table)
    if as_json:
        print(json.dumps({"written": count, **ledger.to_dict()}, ensure_ascii=False))
        return
    print(f"{file}: {count:,} comparisons of {path} ({split}) in the form {to}")
    for reason, dropped in ledger.dropped.items():
        print(f"  set aside: {dropped:,} {reason}, for example {ledger.examples[reason][0]}")
    left_out = [name.removeprefix("left out: ") for name in ledger.counts if name.startswith("left out: ")]
    if left_out:
        print(f"  this form has no place for: {'; '.join(left_out)}")
