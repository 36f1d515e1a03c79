"""How long an instruction holds over twenty turns: Ghost Attention on a miniature whose context was stretched to 896 tokens. One JSON line.

    python benchmarks/long_instructions.py [--run FOLDER] [--out FOLDER] [--write FILE]

Reads the stages `prepare_data` and `sft` of a finished quickstart (`--run`). The chat model is given a longer context and learns long dialogs, joined from the
starter's, with many wishes that hold for one turn: it is the model without Ghost Attention, and samples for the one with it. Both then answer dialogs of twenty
turns. Half an hour on one core that other work uses too.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from machine import machine_facts
from many_wishes import OWN_WISH, constraints_toml, wishes, with_wishes
from result import give_result

from herdling.base.artifact import write_json_atomic
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_to_row, read_jsonl, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.long_dialogs import joined, plain_dialogs
from herdling.recipe import load_recipe
from herdling.recipe.runner import Runner
from herdling.stages.sft import dialogs_of

RECIPE = Path(__file__).with_suffix(".toml")
CONTEXT = 896
NUM_LONG = {"train": 3500, "validation": 40}
"""Dialogs that the model without Ghost Attention learns: of 2 to 20 turns, half of their questions with a wish for one turn."""
NUM_AGAIN = {"train": 400, "validation": 40}
"""Such dialogs that the model with it learns again, so that a wish for one turn stays one. A held-out wish that is seen to end would teach that it never lasts:
such wishes stand in the last turn alone, and in dialogs of one turn, `ONE_TURN` times as many."""
ONE_TURN = 4


def prepare(run: Path, out: Path) -> None:
    """Write the model with the longer context, and dialogs of two to twenty turns."""
    if not (out / "model").is_dir():
        shutil.copytree(run / "sft", out / "model", ignore=shutil.ignore_patterns("manifest.json"))
    config = json.loads((out / "model" / "config.json").read_text())
    write_json_atomic(out / "model" / "config.json", {**config, "max_position_embeddings": CONTEXT})
    for split in NUM_LONG:
        dialogs = plain_dialogs(dialogs_of(run / "prepare_data", split), Ledger(split), without=None)
        many = with_wishes(joined(dialogs, (2, 20), stream_seed(1, "long")), stream_seed(1, "long", split), wishes(False, True))
        again = with_wishes(joined(dialogs, (1, 19), stream_seed(1, "again")), stream_seed(1, "again", split), wishes(False))
        alone = with_wishes(joined(dialogs, (1, 1), stream_seed(1, "alone")), stream_seed(1, "alone", split), wishes(True), share=1.0)
        count = NUM_AGAIN[split]
        ended = [replace(dialog, messages=(*dialog.messages, *last.messages)) for dialog, last in zip(islice(again, count), alone, strict=False)]
        write_jsonl(out / "long" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, islice(many, NUM_LONG[split])))
        write_jsonl(out / "again" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, [*ended, *islice(alone, ONE_TURN * count)]))


def filled_in(places: dict[str, Path]) -> str:
    """Return the recipe with its places and wishes."""
    text = RECIPE.read_text(encoding="utf-8")
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", str(place.resolve()))
    for stage in ("ghost_attention", "ghost_last"):
        text = text.replace(f"{{CONSTRAINTS {stage}}}", constraints_toml(f"stages.{stage}"))
    return text.replace("{OWN_WISH}", OWN_WISH)


def right_content(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return model -> way of asking -> part -> turn -> share of answers that hold the words of the data's answer in a row, whatever their form."""
    counted: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    for row in rows:
        if row["obeyed"] is not None:
            counted[row["model"], row["asked"], row["part"], str(row["turn"])].append(f" {_words(row['given'])} " in f" {_words(row['answer'])} ")
    found: dict[str, Any] = {}
    for (model, asked, part, turn), right in counted.items():
        found.setdefault(model, {}).setdefault(asked, {}).setdefault(part, {})[turn] = round(sum(right) / len(right), 4)
    return found


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def main() -> None:
    """Prepare, run the recipe, print what held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("runs/long-instructions"))
    parser.add_argument("--write", type=Path, default=None, help="write the result to this file too")
    given = parser.parse_args()
    prepare(given.run, given.out)
    places = {"MODEL": given.out / "model", "LONG": given.out / "long", "AGAIN": given.out / "again", "DATA": given.run / "prepare_data"}
    (given.out / "recipe.toml").write_text(filled_in(places), encoding="utf-8")
    made = Runner(recipe=load_recipe(given.out / "recipe.toml"), runs=given.out / "runs", say=print).run()
    results = json.loads((made["retention"].folder / "results.json").read_text())
    content = right_content(row for _, row in read_jsonl(made["retention"].folder / "answers.jsonl"))
    give_result({"benchmark": "long instructions", **results, "right_content": content, "machine": machine_facts()}, given.write)


if __name__ == "__main__":
    main()
