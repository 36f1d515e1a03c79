"""`herdling plan`: answers, in a table and as JSON, for clusters that can be and that cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herdling.base.errors import HerdlingError, ModelError, SettingsError
from herdling.cli.main import app
from herdling.cli.plan_cluster import even_rows, read_model
from herdling.cli.plan_recipe import recipe_lines
from herdling.model.presets import preset
from herdling.plan.split import Job, Split


def plan(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_table_says_what_fits_how_long_how_much_and_how_to_start() -> None:
    shown = plan("llama3.1-405b", "--gpus", "16384", "--batch", "16M", "--tokens", "15.6T")
    for part in ("MFU causal", "16.8M tokens a step", "weights", "bubble", "GPU hours", "kWh", "refused", "torchrun --nnodes 2048"):
        assert part in shown


def test_the_recipe_says_what_our_trainer_cannot_do() -> None:
    shown = plan("llama3-8b", "--gpus", "64", "--batch", "4M", "--seq-len", "8192")
    lines = shown[shown.index("[stages.pretrain]") :]
    settings = tomllib.loads(lines)["stages"]["pretrain"]
    assert settings["size"] == "llama3-8b"
    assert settings["sequence_length"] == 8192
    assert settings["batch"] == str(512 * 8192)
    assert settings["loop"]["micro_batch_tokens"] % 8192 == 0
    assert "dp = " in lines
    assert "herdling's trainer takes one GPU so far" in lines
    alone = plan("llama3.2-1b", "--gpus", "1")
    assert "to start: herdling run RECIPE.toml" in alone
    assert "one GPU so far" not in alone


@pytest.mark.parametrize("purpose", ["train", "sft", "dpo", "ppo"])
def test_recipe_lines_are_settings_that_the_stage_has(purpose: str) -> None:
    kind = {"train": "pretrain"}.get(purpose, purpose)
    job = Job(model=preset("llama3.2-1b"), seq_len=2048, global_batch=64)
    lines = recipe_lines(job, Split(), "llama3.2-1b", purpose, 10**9).replace("= ...", '= "@other"')
    settings = tomllib.loads(lines)["stages"][kind]
    stage = import_module(f"herdling.stages.{kind}")
    assert settings.keys() <= {field.name for field in fields(getattr(stage, kind.capitalize()))}


def test_a_plan_is_drawn(tmp_path: Path) -> None:
    plan("llama3.1-405b", "--gpus", "512", "--batch", "4M", "--picture", str(tmp_path / "new" / "plan.svg"))
    drawn = (tmp_path / "new" / "plan.svg").read_text()
    assert drawn.startswith("<svg")
    assert "llama3.1-405b on 512 x h100" in drawn
    with pytest.raises(SettingsError, match="--picture draws training"):
        plan("llama3-8b", "--for", "serve", "--picture", "x.svg")


def test_software_makes_a_difference() -> None:
    steps = {
        stack: json.loads(plan("llama3-70b", "--gpus", "256", "--batch", "4M", "--top", "1", "--json", "--stack", stack))["splits"][0]["step_seconds"]
        for stack in ("herdling", "megatron")
    }
    assert steps["megatron"] < steps["herdling"]
    with pytest.raises(SettingsError, match="did you mean 'megatron'"):
        plan("llama3-8b", "--stack", "megatorn")


def test_json_holds_memory_time_and_both_conventions() -> None:
    found = json.loads(plan("llama3-8b", "--gpus", "64", "--batch", "4M", "--json", "--top", "2"))
    best = found["splits"][0]
    assert len(found["splits"]) == 2
    assert best["tp"] * best["cp"] * best["pp"] * best["dp"] == 64
    assert best["memory_gib"]["total"] < 80
    assert best["step_seconds_interval"][0] < best["step_seconds"] < best["step_seconds_interval"][1]
    assert best["sent_gb"]["copies"] > 1
    assert 0.2 < best["mfu_causal"] < best["mfu_full"] < 0.7


def test_the_gpu_hours_of_llama_3_405b_are_those_of_its_model_card() -> None:
    found = json.loads(plan("llama3.1-405b", "--gpus", "16384", "--batch", "16M", "--tokens", "15.6T", "--json", "--top", "1"))
    assert found["splits"][0]["run"]["gpu_hours"] == pytest.approx(30.84e6 * 0.9, rel=0.15)  # more than 90 % of the time was useful


@pytest.mark.parametrize("purpose", ["sft", "dpo", "ppo"])
def test_other_trainings_take_more_memory_and_time(purpose: str) -> None:
    arguments = ("llama3-8b", "--gpus", "64", "--batch", "4M", "--json", "--top", "1")
    alone, other = (json.loads(plan(*arguments, "--for", what))["splits"][0] for what in ("train", purpose))
    assert other["step_seconds"] >= alone["step_seconds"]
    assert ("generation_seconds" in other) == (purpose == "ppo")


def test_serving_405b_needs_two_servers() -> None:  # Llama 3, section 6.1
    assert "TP 8 x PP 2" in plan("llama3.1-405b", "--gpus", "16", "--for", "serve")
    with pytest.raises(SettingsError, match=r"serving needs .* GiB a GPU, there are 79"):
        plan("llama3.1-405b", "--gpus", "8", "--for", "serve")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("llama3.1-405b", "--gpus", "8"), "the least cluster is 128 x h100"),
        (("llama3-8b", "--gpus", "0"), "--gpus is 0; accepted: 1 or more"),
        (("llama3-8b", "--gpu", "h1000"), "did you mean 'h100'"),
        (("llama3-8b", "--nic", "-3"), "nic_gb_per_s of the GPU h100 is -3.0"),
        (("llama3-8b", "--gpu", "a100-80gb", "--precision", "fp8"), "no units for fp8"),
        (("llama3-8b", "--gpus", "3", "--batch", "8192"), "1 row of 8,192 tokens cannot be shared so"),
        (("llama3-8b", "--batch", "100"), "--batch is 100 tokens, less than one row; accepted: 8,192 or more"),
        (("llama3-8b", "--batch", "0"), "--batch is 0; accepted: 1 or more"),
        (("llama3-8b", "--seq-len", "0"), "--seq-len is 0; accepted: 1 or more"),
        (("llama3-8b", "--tokens", "0"), "--tokens is 0; accepted: 1 or more"),
        (("llama3-8b", "--for", "serve", "--batch", "0"), "--batch is 0; accepted: 1 or more"),
        (("llama3-8b", "--document", "nan"), "--document is nan; accepted: between 1 and the tokens of a row, 8,192"),
        (("llama3-8b", "--law", "llama3"), "--recipe and --law belong to --budget"),
        (("llama3-8b", "--picture", "/dev/null/plan.svg"), "--picture /dev/null/plan.svg: cannot be written"),
        (("/dev", "--gpus", "8"), "/dev: has no config.json"),
        (("llama3-8b", "--batch", "many"), "--batch"),
        (("llama3.1-405b", "--gpus", "8", "--gpu-memory", "0.5"), "no cluster of h100 up to 131,072 holds it"),
    ],
)
def test_what_cannot_be_gets_an_answer(arguments: tuple[str, ...], answer: str) -> None:
    with pytest.raises(HerdlingError) as raised:
        plan(*arguments)
    assert answer in str(raised.value)


def test_a_model_may_be_a_folder(tmp_path: Path) -> None:
    config = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_model(str(tmp_path)).head_dim == 8
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingsError, match="is no config of a Llama"):
        read_model(str(tmp_path))
    with pytest.raises(ModelError, match="unknown"):
        read_model("llama9")


@pytest.mark.parametrize(("rows", "even"), [(1953.1, 2048), (122.1, 128), (488.3, 512), (8, 8), (1.2, 1), (0.3, 1), (6, 6)])
def test_rows_are_made_even(rows: float, even: int) -> None:
    assert even_rows(rows) == even


def test_planning_never_imports_torch() -> None:
    code = "import sys; from herdling.cli.main import app; sys.argv = ['herdling', 'plan', 'llama3-8b']\ntry: app()\nfinally: assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
