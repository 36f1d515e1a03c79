"""`herdling plan --budget`: an answer with its reasons, and a recipe that `herdling run` takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herdling.base.errors import HerdlingError
from herdling.base.units import parse_count
from herdling.cli.budget import MORE_TOKENS, TEXT_TOKENS, offers_here
from herdling.cli.main import app
from herdling.plan.machine import this_identity, update_machine
from herdling.recipe import load_recipe
from tests.plan.made_machine import made_machine


@pytest.fixture(autouse=True)
def known_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "machine.json"
    monkeypatch.setenv("HERDLING_MACHINE", str(path))
    update_machine(path, this_identity(), lambda before: made_machine(identity=this_identity()))
    return path


def plan(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("budget", ["6m", "10m", "3h", "1e14", "$2"])
def test_the_recipe_that_comes_out_is_one(tmp_path: Path, budget: str) -> None:
    file = tmp_path / "my.toml"
    found = json.loads(plan("--budget", budget, "--recipe", str(file), "--json", *(["--price", "1.5"] if budget[0] == "$" else [])))
    recipe = load_recipe(file)
    stage = recipe.stages["pretrain"]
    assert (stage.size, parse_count(stage.num_tokens, where=""), stage.optimizer.lr) == (found["size"], found["num_tokens"], found["lr"])
    assert stage.batch == f"{found['batch_tokens']}@{found['sequence_length']}"
    sources = recipe.stages["prepare_data"].sources
    assert stage.sources.keys() == sources.keys()
    assert sum(stage.sources.values()) == pytest.approx(1)
    assert ("packages" in sources) == (found["num_tokens"] > 4 * TEXT_TOKENS)
    assert list(recipe.stages) == ["prepare_data", "train_tokenizer", "tokenize", "pretrain", "sft", "evaluate", "export", "report"]
    assert found["num_tokens"] <= 4 * (TEXT_TOKENS + MORE_TOKENS)


def test_all_of_the_recipe_fits_into_the_time() -> None:
    for budget, seconds in (("6m", 360), ("10m", 600), ("30m", 1800)):
        found = json.loads(plan("--budget", budget, "--json"))
        assert 0.8 * seconds < found["seconds"]["all"] <= seconds or found["limited_by_text"]
        assert found["interval"][0] < found["seconds"]["all"] < found["interval"][1]
        assert found["loss"] == min(one["loss"] for one in found["weighed"])


def test_more_time_buys_a_larger_model_on_more_text_until_it_runs_out() -> None:
    small, large, endless = (json.loads(plan("--budget", budget, "--json")) for budget in ("6m", "40m", "30d"))
    assert small["flops"] < large["flops"] < endless["flops"]
    assert endless["limited_by_text"]
    assert any("the text runs out" in line for line in endless["said"])


def test_what_was_decided_and_why_is_said() -> None:
    shown = plan("--budget", "10m")
    for part in (
        "10m 00s on this machine",
        "parameters (width",
        "peak learning rate",
        "expected loss",
        "law chinchilla",
        "extrapolated",
        "time: ",
        "pretrain",
        "sft",
    ):
        assert part in shown
    assert '[stages.pretrain]\ntokens = "@tokenize"' in shown


def test_a_law_of_ones_own_decides(tmp_path: Path) -> None:
    constants = {"E": 1.0, "A": 1e6, "B": 1.0, "alpha": 1.0, "beta": 1.0}  # size is all that counts
    (tmp_path / "fit.json").write_text(json.dumps({"parametric": constants}))
    by_default, by_own = (json.loads(plan("--budget", "20m", "--json", *law)) for law in ([], ["--law", str(tmp_path)]))
    assert by_own["parameters"] > by_default["parameters"]
    assert by_own["law"].endswith("fit.json")


def test_rented_gpus_get_a_size_a_split_and_a_price(tmp_path: Path) -> None:
    file = tmp_path / "large.toml"
    arguments = ("--budget", "$20000", "--gpu", "h100", "--gpus", "64", "--price", "2", "--json", "--recipe", str(file))
    found = json.loads(plan(*arguments))
    assert found["seconds"]["all"] == pytest.approx(20000 / 2 / 64 * 3600, rel=0.1)
    assert 3e8 < found["parameters"] < 2e10
    assert 5 < found["tokens_per_parameter"] < 80
    assert 64 * 1e14 < found["flops_per_second"] < 64 * 8e14
    recipe = load_recipe(file)
    assert recipe.stages["pretrain"].size == found["size"]
    assert "# fastest split of 64 x h100: TP" in file.read_text()
    assert "# torchrun" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("--budget", "1s"), "is too little to train anything here: the least is"),
        (("--budget", "1e9"), "is too little to train anything here: the least is"),
        (("--budget", "0m"), "nothing to spend"),
        (("--budget", "-3h"), "accepted: time such as"),
        (("--budget", "5 fortnights"), "accepted: time such as"),
        (("--budget", "$5"), "money buys time at a price"),
        (("--budget", "$5", "--price", "-2"), "above 0"),
        (("--budget", "$5", "--gpu", "h1000"), "did you mean 'h100'"),
        (("--budget", "1h", "--gpus", "0"), "--gpus is 0"),
        (("--budget", "10m", "--law", "kaplan"), "no such law or file"),
        (("--budget", "10m", "--recipe", __file__), "is not overwritten"),
        (("--budget", "1s", "--gpus", "8"), "is too little to train anything here"),
    ],
)
def test_what_cannot_be_gets_an_answer(arguments: tuple[str, ...], answer: str) -> None:
    with pytest.raises(HerdlingError) as raised:
        plan(*arguments)
    assert answer in str(raised.value)


def test_sizes_are_named_so_that_the_dial_gives_them_again() -> None:
    from herdling.model.dial import dial

    for offer in offers_here(made_machine()):
        assert dial(parse_count(offer.name, where="size"), vocab_size=4096).config == offer.config


def test_a_known_machine_is_planned_for_without_torch(known_machine: Path) -> None:
    code = (
        "import sys; from herdling.cli.main import app; sys.argv = ['herdling', 'plan', '--budget', '10m']\n"
        "try: app()\nfinally: assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
