"""Killed at random points and run again, the data stages end with the same bytes as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from herdling.base.artifact import read_artifact
from tests.data.toy_tokens import random_texts

RECIPE = """
name = "killed"
seed = 1
[stages.prepare_data]
sources = {{ one = "{folder}/one.jsonl", two = "{folder}/two.jsonl", three = "{folder}/three.jsonl" }}
[stages.train_tokenizer]
data = "@prepare_data"
family = "llama3"
vocab_size = 300
[stages.tokenize]
data = "@prepare_data"
tokenizer = "@train_tokenizer"
"""
RUN = """
import sys
from pathlib import Path
from herdling.recipe import Runner, load_recipe
print("ready", flush=True)
Runner(recipe=load_recipe(Path(sys.argv[1])), runs=Path(sys.argv[2])).run()
"""


def start(recipe: Path, runs: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(recipe), str(runs)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_killed_at_random_points_the_data_stages_end_with_the_same_bytes(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two", "three")):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in random_texts(4_000, seed)))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=tmp_path))
    began = time.monotonic()
    with start(recipe, tmp_path / "whole") as whole:
        assert whole.wait() == 0
    took = time.monotonic() - began
    chance = random.Random(1)
    for _ in range(3):
        with start(recipe, tmp_path / "killed") as process:
            time.sleep(chance.uniform(0, 0.6 * took))
            process.send_signal(signal.SIGKILL)
    with start(recipe, tmp_path / "killed") as last:
        assert last.wait() == 0
    for stage in ("prepare_data", "tokenize"):
        one, other = (read_artifact(tmp_path / runs / "killed" / stage) for runs in ("whole", "killed"))
        assert one.fingerprint == other.fingerprint
        other.verify()
