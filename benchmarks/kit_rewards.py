"""Reward models on real preferences with a model of 3.4M parameters: accuracy beside length alone, with intervals, and a learning curve. Prints one JSON line.

    python benchmarks/kit_rewards.py --kit FOLDER [--runs FOLDER] [--write FILE] [--only-collect]

`--kit` holds `corpora/`, `instruct/` and `preference/` (HH-RLHF and four-level Stack Exchange pairs). A base model is pre-trained on 6M tokens of English
prose (about one pass over the kit's), tuned on 1,100 short instructions, and made into one reward model a set, one epoch each, as Llama 2, section 3.2.2. The
corpus of Stack Exchange is left out of pre-training: it holds the answers of the test pairs, sorted by their votes. A run that was stopped goes on; what is
finished is not made again. About 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from machine import machine_facts

from herdling.base.artifact import read_artifact
from herdling.recipe import Runner, decode_recipe

CORPORA = {"web": 0.2, "c4": 0.06, "wikipedia": 0.27, "books": 0.27, "stories": 0.18, "tinystories": 0.02}
SETS = {
    "helpful_base": "hh_helpful-base_a",
    "helpful_sampled": "hh_helpful-rejection-sampled_a",
    "harmless": "hh_harmless-base_a",
    "stackexchange": "stackexchange_pairs_4level",
}
SHOWN = ("total", "accuracy", "low", "high", "length_baseline", "lead", "lead_low", "lead_high")
NUM_TOKENS = "6M"
CURVE_SET, CURVE = "helpful_base", (200, 400, 800)
MODEL = {
    "vocab_size": 4096,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
}


def recipe(kit: Path) -> dict[str, Any]:
    """Return the recipe: base model, chat model, and for each set its comparisons and its reward model."""
    corpora = {name: str(kit / "corpora" / f"{'stories_cc0' if name == 'stories' else name}.jsonl.gz") for name in CORPORA}
    stages: dict[str, Any] = {
        "prepare_data": {"sources": corpora},
        "train_tokenizer": {"data": "@prepare_data", "family": "llama3", "vocab_size": 4096},
        "tokenize": {"data": "@prepare_data", "tokenizer": "@train_tokenizer"},
        "pretrain": {
            "tokens": "@tokenize",
            "tokenizer": "@train_tokenizer",
            "model": MODEL,
            "num_tokens": NUM_TOKENS,
            "batch": "0:2048@512 4.5M:2048@1024",
            "optimizer": {"lr": 4e-3},
            "sources": CORPORA,
            "loop": {"checkpoint": {"every_seconds": 30.0}},
        },
        "instructions": {"kind": "prepare_data", "sources": {}, "dialogs": str(kit / "instruct" / "rasbt_instruction-data.json.gz")},
        "sft": {"model": "@pretrain", "data": "@instructions", "optimizer": {"lr": 1e-3}},
    }
    for name, file in SETS.items():
        for limit in (*(CURVE if name == CURVE_SET else ()), None):
            known = name if limit is None else f"{name}_{limit}"
            given = {"path": str(kit / "preference" / f"{file}.jsonl.gz"), "test_share": 0.25}
            stages[f"pairs_{known}"] = {"kind": "prepare_comparisons", **given, **({} if limit is None else {"max_train": limit})}
            stages[f"reward_{known}"] = {
                "kind": "reward",
                "model": "@sft",
                "comparisons": {name: f"@pairs_{known}"},
                "batch_pairs": 32,
                "loop": {"checkpoint": {"every_seconds": 30.0}},
            }
    return {"name": "kit-rewards", "seed": 1, "stages": stages}


def measured(folder: Path) -> dict[str, Any]:
    """Return the numbers of one reward model; empty when it is not finished."""
    if not (folder / "manifest.json").is_file():
        return {}
    manifest = read_artifact(folder).manifest
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["all"]
    kept = {name: found["accuracy"][name] for name in SHOWN} | {"length_direction": found["accuracy"]["length_direction"]}
    kept["by_rating"] = {name: {key: row[key] for key in SHOWN} for name, row in found.get("by_rating", {}).items()}
    kept |= {"expected_calibration_error": found["calibration"]["expected_calibration_error"], "bimodality": found["scores"]["bimodality"]}
    return {"train_pairs": manifest["summary"]["pairs"], "seconds": manifest["seconds"], **kept}


def main() -> None:
    """Run the recipe and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the folder kit-rewards stands, or is made")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only-collect", action="store_true", help="run nothing, collect the numbers of what is finished")
    arguments = parser.parse_args()
    if not arguments.only_collect:
        Runner(recipe=decode_recipe(recipe(arguments.kit.resolve())), runs=arguments.runs).run()
    folder = arguments.runs / "kit-rewards"
    rewards = {path.name.removeprefix("reward_"): measured(path) for path in sorted(folder.glob("reward_*"))}
    base = read_artifact(folder / "pretrain").manifest
    result = {
        "what": "reward models on real preferences, accuracy on held-out pairs beside going by length alone (the better direction, known after the fact)",
        "command": f"python benchmarks/kit_rewards.py --kit {arguments.kit.name}",
        "machine": machine_facts("torch", "numpy"),
        "base": {"summary": base["summary"], "seconds": base["seconds"]},
        "rewards": {name: row for name, row in rewards.items() if row},
    }
    print(json.dumps(result))
    if arguments.write:
        arguments.write.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
