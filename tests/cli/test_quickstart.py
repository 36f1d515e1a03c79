"""The quickstart's dial: chosen once by the machine's speed, kept on resume, outdone by what a user sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herdling.base.errors import DataError, SettingsError
from herdling.cli.main import app
from herdling.cli.quickstart import DIAL, turned
from herdling.plan.machine import this_identity, update_machine
from herdling.plan.rungs import RUNGS
from tests.plan.made_machine import made_machine


def turn(folder: Path, *set_: str, speed: float = 1.0, force: tuple[str, ...] = (), budget: str | None = None) -> list[str]:
    return turned(folder, set_, force, budget, say=lambda line: None, machine=made_machine(speed))


def begin(folder: Path) -> None:
    """As if pre-training had begun."""
    (folder / ".pretrain.partial").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(("speed", "size"), [(0.5, None), (1.0, None), (4.0, "5M"), (20.0, "10M")])
def test_a_machine_like_ours_or_slower_runs_the_recipe_as_it_is_and_a_faster_one_a_larger_model(tmp_path: Path, speed: float, size: str | None) -> None:
    lines = turn(tmp_path, speed=speed)
    assert lines == ([] if size is None else next(rung for rung in RUNGS if rung.size == size).overrides)
    assert json.loads((tmp_path / DIAL).read_text())["size"] == (size or "1.3M")


def test_the_choice_is_made_once_and_said_in_one_line(tmp_path: Path) -> None:
    said: list[str] = []
    first = turned(tmp_path, (), (), None, say=said.append, machine=made_machine(4.0))
    assert len(said) == 1
    assert "5M parameters on 8M tokens" in said[0]
    begin(tmp_path)
    assert turned(tmp_path, (), (), None, say=said.append, machine=made_machine(0.5)) == first  # the machine is busy now, or another
    assert len(said) == 1


def test_a_choice_holds_already_before_pre_training_has_begun(tmp_path: Path) -> None:
    first = turn(tmp_path, speed=4.0)
    assert turn(tmp_path, speed=20.0) == first
    assert turn(tmp_path, speed=20.0, budget="30m") != first


def test_a_run_from_before_the_dial_goes_on_as_it_began(tmp_path: Path) -> None:
    begin(tmp_path)
    assert turn(tmp_path, speed=20.0) == []
    assert not (tmp_path / DIAL).exists()


@pytest.mark.parametrize(
    "line", ["stages.pretrain.size=2M", "stages.pretrain.num_tokens=1M", "stages.pretrain.optimizer.lr=1e-3", "stages.pretrain.batch = 4096@256"]
)
def test_what_a_user_sets_wins(tmp_path: Path, line: str) -> None:
    assert turn(tmp_path, line, speed=20.0) == []
    assert not (tmp_path / DIAL).exists()
    with pytest.raises(SettingsError, match="Leave one of the two out"):
        turn(tmp_path, line, budget="30m")


def test_other_settings_leave_the_dial_alone(tmp_path: Path) -> None:
    assert turn(tmp_path, "stages.sft.epochs=1", "stages.pretrain.loop.validations=3", speed=4.0) == RUNGS[3].overrides


def test_a_budget_chooses_and_is_kept_and_another_is_refused_with_the_command(tmp_path: Path) -> None:
    chosen = turn(tmp_path, budget="1h")
    assert chosen != []
    begin(tmp_path)
    assert turn(tmp_path) == turn(tmp_path, budget="1h") == chosen
    with pytest.raises(SettingsError, match=r"began with --budget 1h, now --budget 20m.*--budget 20m --force pretrain"):
        turn(tmp_path, budget="20m")
    assert turn(tmp_path, budget="20m", force=("pretrain",)) != chosen


@pytest.mark.parametrize(
    ("budget", "answer"), [("1m", "are too few here"), ("1e15", "accepted here: a time such as 30m"), ("$5", "a time such as 30m"), ("soon", "accepted: time")]
)
def test_a_budget_that_cannot_be_gets_an_answer(tmp_path: Path, budget: str, answer: str) -> None:
    with pytest.raises(SettingsError, match=answer):
        turn(tmp_path, budget=budget)
    assert not (tmp_path / DIAL).exists()


def test_a_damaged_choice_is_named(tmp_path: Path) -> None:
    (tmp_path / DIAL).write_text("{}")
    with pytest.raises(DataError, match=r"dial.json: cannot be read .* Remove it"):
        turn(tmp_path)


@pytest.mark.parametrize(
    ("speed", "arguments", "pretrain"),
    [
        (1.0, [], ("1.3M", "4M", "2048@256", 4e-3)),
        (4.0, [], ("5M", "8M", "2048@256", 2.9e-3)),
        (4.0, ["--set", "stages.pretrain.size=2M"], ("2M", "4M", "2048@256", 4e-3)),
        (1.0, ["--budget", "30m"], ("5M", "8M", "2048@256", 2.9e-3)),
    ],
)
def test_the_command_runs_the_recipe_with_what_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: float, arguments: list[str], pretrain: tuple[object, ...]
) -> None:
    place, ran = tmp_path / "machine.json", []
    monkeypatch.setenv("HERDLING_MACHINE", str(place))
    monkeypatch.setattr("herdling.cli.quickstart.run_recipe", lambda recipe, runs, again: ran.append(recipe))
    update_machine(place, this_identity(), lambda before: made_machine(speed, identity=this_identity()))
    for _ in range(2):
        result = CliRunner().invoke(app, ["quickstart", "--runs", str(tmp_path / "runs"), *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        update_machine(place, this_identity(), lambda before: made_machine(0.3, identity=this_identity()))  # busy by now: the choice stays
    chosen = [(stage.size, stage.num_tokens, stage.batch, stage.optimizer.lr) for stage in (recipe.stages["pretrain"] for recipe in ran)]
    assert chosen == [pretrain, pretrain]
