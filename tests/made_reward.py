"""A made-up reward model's artifact with every part of its report, judged by a made-up annotator: for the tests of the report, and to be looked at.

python -m tests.made_reward FOLDER       writes FOLDER/rewards and its report
"""

from __future__ import annotations

import sys
from math import exp
from pathlib import Path

from herdling.base.artifact import Artifact, read_artifact, write_json_atomic
from herdling.base.seeds import stream
from herdling.evals.reward import ScoredComparison, report_card
from herdling.preference.rating import LEVELS
from herdling.types import Comparison, Completion, Dialog, Message

MIX = [
    {"set": "helpful <b>", "part": "main", "available": 700, "planned": 700, "drawn": 700},
    {"set": "safety", "part": "side", "available": 400, "planned": 700, "drawn": 400},
]


def make_reward(runs: Path) -> list[Artifact]:
    """Write the artifact of a reward model below `runs/rewards` and return it."""
    folder = runs / "rewards" / "reward"
    folder.mkdir(parents=True)
    write_json_atomic(folder / "results.json", report_card(made_scores()))
    write_json_atomic(folder / "ledger.json", {"stage": "reward", "rows_in": 1100, "kept": 1100, "dropped": {}, "counts": {"comparison_mix": MIX}})
    manifest = {
        "format": 1, "name": "reward", "output": "reward", "kind": "reward", "status": "done", "seed": 1,
        "settings": {"objective": "llama2", "margin": "small"}, "inputs": {}, "parents": {},
        "fingerprint": "f" * 64, "tokenizer": "", "chat_template": "", "summary": {"test_accuracy": 0.71}, "seconds": 61.0,
        "finished": "2026-11-25T17:40:12+00:00", "code": {"version": "0.1.0", "commit": ""}, "machine": {"cores": 2, "python": "3.11.7"}, "files": {},
    }  # fmt: skip
    write_json_atomic(folder / "manifest.json", manifest)
    return [read_artifact(folder)]


def made_scores(count: int = 900) -> list[ScoredComparison]:
    """Return scored comparisons of two sets, whose scores follow a hidden gold reward with noise, and lean towards longer answers."""
    draw = stream(1, "made reward")
    scored = []
    for number in range(count):
        gold = [round(float(value), 3) for value in draw.normal(size=2) * 1.5]
        lengths = draw.integers(4, 90, size=2)
        left_wins = draw.random() < 1 / (1 + exp(-(gold[0] - gold[1])))
        safety = number % 3 == 0
        flags = (bool(draw.random() < 0.7), bool(draw.random() < 0.7))
        unsafe_chosen = not flags[0 if left_wins else 1] and flags[1 if left_wins else 0]
        scores = tuple(gold[side] + 0.008 * float(lengths[side]) + 0.9 * float(draw.normal()) + (0.8 if flags[side] else -0.8) * safety for side in (0, 1))
        texts = [f"{side}" * int(lengths[side]) for side in (0, 1)]
        made = Comparison(
            id=f"c{number}",
            dialog=Dialog(
                id=f"c{number}", messages=tuple(Message(role="assistant" if turn % 2 else "user", content="x") for turn in range(1 + 2 * (number % 4)))
            ),
            responses=tuple(Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn") for text in texts),
            ranking=(0, 1) if left_wins else (1, 0),
            rating=LEVELS[3 - min(3, int(abs(gold[0] - gold[1]) / 1.2))],
            safe=((True, True) if unsafe_chosen else flags) if safety else None,
            campaign="safety" if safety else "helpfulness",
            annotator="simulated",
            simulated=True,
            metadata={"gold": gold, "gold_temperature": 1.0},
        )
        scored.append(ScoredComparison(made, scores, "safety" if safety else "helpful <b>"))
    return scored


if __name__ == "__main__":
    from herdling.report.card import read_run
    from herdling.report.page import write_report

    made = make_reward(Path(sys.argv[1]))
    write_report(Path(sys.argv[1]) / "rewards", read_run(made, title="rewards"))
