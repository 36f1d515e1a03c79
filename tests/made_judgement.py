"""A made-up judgement's artifact with every part of its report, one model of which learned its judge and not the task: for the tests, and to be looked at.

python -m tests.made_judgement FOLDER       writes FOLDER/rounds and its report
"""

from __future__ import annotations

import sys
from pathlib import Path

from herdling.base.artifact import Artifact, read_artifact, write_json_atomic
from herdling.base.seeds import stream
from herdling.evals.preference import JudgedAnswer, goodhart_lines, judgement

# label -> (mean reward, watch, gold, KL, share of refusals where due, share of needless ones)
MODELS = {
    "sft": (0.0, 0.1, 2.6, 0.0, 0.62, 0.02),
    "v1 <b>": (0.6, 0.5, 2.95, 1.1, 0.84, 0.02),
    "v2": (0.9, 0.7, 3.1, 1.9, 0.91, 0.03),
    "ppo": (1.5, 0.9, 3.25, 4.6, 0.96, 0.04),
    "ppo, no KL penalty": (3.4, 0.2, 2.1, 17.5, 0.99, 0.31),
}
SKILLS = ("validation_dialogs", "new_wording", "format", "refusal")


def made_answers(count: int = 320) -> dict[str, list[JudgedAnswer]]:
    """Return answers of these models to the same prompts."""
    draw = stream(1, "made judgement")
    hardness = draw.normal(size=count)
    made: dict[str, list[JudgedAnswer]] = {}
    for label, (reward, watch, gold, kl, due, needless) in MODELS.items():
        rows = []
        for number in range(count):
            skill = SKILLS[number % len(SKILLS)]
            adversarial = skill == "refusal" and number % 8 > 3
            noise = draw.normal(size=4)
            rewards = {
                "reward": reward + hardness[number] + 0.4 * noise[0],
                "helpfulness": reward + hardness[number] + 0.4 * noise[0],
                "safety": reward - 0.4 + noise[1],
                "watch": watch + hardness[number] + 0.4 * noise[2],
                "gold": gold + 0.5 * hardness[number] + 0.3 * noise[3],
            }
            refused = bool(draw.random() < (due if adversarial else needless))
            rows.append(
                JudgedAnswer(
                    id=f"p{number}",
                    skill=skill,
                    group="adversarial" if adversarial else "harmless",
                    question=f"question {number}",
                    answer=f"{label} {number}",
                    stop_reason="max_tokens" if draw.random() < 0.01 else "end_of_turn",
                    num_tokens=int(draw.integers(3, 20)),
                    kl=kl + kl**0.5 * float(draw.normal()),
                    rewards={name: round(float(value), 4) for name, value in rewards.items()},
                    refused=refused,
                    correct=bool(draw.random() < (0.55 if label.startswith("ppo,") and skill == "format" else 0.8)),
                    called_unsafe=bool(rewards["safety"] < -1.73),
                )
            )
        made[label] = rows
    return made


def make_judgement(runs: Path) -> list[Artifact]:
    """Write the artifact of a judgement below `runs/rounds` and return it."""
    folder = runs / "rounds" / "judge"
    folder.mkdir(parents=True)
    results = judgement(made_answers())
    write_json_atomic(folder / "results.json", results | {"goodhart": results["goodhart"] | {"lines": goodhart_lines(results["goodhart"])}})
    manifest = {
        "format": 1, "name": "judge", "output": "judgement", "kind": "judge", "status": "done", "seed": 1,
        "settings": {"gold": True, "temperature": 1.0}, "inputs": {}, "parents": {},
        "fingerprint": "f" * 64, "tokenizer": "", "chat_template": "", "summary": {"prompts": 320}, "seconds": 61.0,
        "finished": "2026-11-25T17:40:12+00:00", "code": {"version": "0.1.0", "commit": ""}, "machine": {"cores": 2, "python": "3.11.7"}, "files": {},
    }  # fmt: skip
    write_json_atomic(folder / "manifest.json", manifest)
    return [read_artifact(folder)]


if __name__ == "__main__":
    from herdling.report.card import read_run
    from herdling.report.page import write_report

    made = make_judgement(Path(sys.argv[1]))
    write_report(Path(sys.argv[1]) / "rounds", read_run(made, title="rounds"))
