"""How long an instruction holds over twenty turns: Ghost Attention on a miniature whose context was stretched to 1,024 tokens. One JSON line.

    python benchmarks/long_instructions.py [--run FOLDER] [--out FOLDER]

Reads the stages `prepare_data` and `sft` of a finished quickstart (`--run`). The chat model is given four times its context and learns long dialogs, joined
from the starter's: it is the model without Ghost Attention, and samples for the one with it. Both then answer dialogs of twenty turns. Eight minutes on a core.
"""

from __future__ import annotations

import argparse
import json
import shutil
from itertools import islice
from pathlib import Path

from machine import machine_facts
from result import give_result

from herdling.base.artifact import write_json_atomic
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_to_row, write_jsonl
from herdling.data.long_dialogs import joined, plain_dialogs
from herdling.recipe import load_recipe
from herdling.recipe.runner import Runner
from herdling.stages.sft import dialogs_of

RECIPE = Path(__file__).with_suffix(".toml")
CONTEXT = 1024
NUM_DIALOGS = {"train": 1200, "validation": 40}


def prepare(run: Path, out: Path) -> None:
    """Write the model with the longer context, and dialogs of two to twenty turns."""
    if not (out / "model").is_dir():
        shutil.copytree(run / "sft", out / "model", ignore=shutil.ignore_patterns("manifest.json"))
    config = json.loads((out / "model" / "config.json").read_text())
    write_json_atomic(out / "model" / "config.json", {**config, "max_position_embeddings": CONTEXT})
    for split, count in NUM_DIALOGS.items():
        dialogs = plain_dialogs(dialogs_of(run / "prepare_data", split), Ledger(split), without=None)
        write_jsonl(out / "dialogs" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, islice(joined(dialogs, (2, 20), 1), count)))


def main() -> None:
    """Prepare, run the recipe, print what held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("runs/long-instructions"))
    given = parser.parse_args()
    prepare(given.run, given.out)
    places = {"MODEL": given.out / "model", "LONG": given.out / "dialogs", "DATA": given.run / "prepare_data"}
    text = RECIPE.read_text(encoding="utf-8")
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", str(place.resolve()))
    (given.out / "recipe.toml").write_text(text, encoding="utf-8")
    made = Runner(recipe=load_recipe(given.out / "recipe.toml"), runs=given.out, say=print).run()
    results = json.loads((made["retention"].folder / "results.json").read_text())
    give_result({"benchmark": "long instructions", **results, "machine": machine_facts()}, None)


if __name__ == "__main__":
    main()
