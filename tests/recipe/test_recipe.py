from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.errors import SettingsError
from herdling.recipe import decode_recipe, load_recipe
from herdling.recipe.graph import ordered

TOY = """
name = "toy"
[stages.count]
kind = "toy_count"
of = ["@words"]
[stages.words]
kind = "toy_words"
words = ["x", "y", "z"]
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_stages_are_ordered_by_what_they_read_not_by_the_file(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "toy.toml", TOY))
    assert list(recipe.stages) == ["count", "words"]
    assert ordered(recipe.stages) == ["words", "count"]


def test_set_overrides_a_setting_with_a_line_of_toml(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "toy.toml", TOY), ['stages.words.words=["q"]', "seed=7", "name=other"])
    assert recipe.stages["words"].words == ("q",)
    assert (recipe.seed, recipe.name) == (7, "other")


def test_a_base_recipe_is_read_first_and_the_file_wins(tmp_path: Path) -> None:
    write(tmp_path / "toy.toml", TOY)
    recipe = load_recipe(write(tmp_path / "mine.toml", 'base = "toy.toml"\nname = "mine"\n[stages.words]\nwords = ["only"]\n'))
    assert recipe.name == "mine"
    assert recipe.stages["words"].words == ("only",)
    assert "count" in recipe.stages


def test_a_resolved_recipe_reads_back_to_an_equal_one(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "toy.toml", TOY))
    assert decode_recipe(recipe.to_dict()).stages == recipe.stages


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOY.replace("words = [", "wrods = ["), r"stages.words.wrods: unknown setting \(did you mean 'words'\?\); accepted here: words, separator, stop_after"),
        (TOY.replace('["x", "y", "z"]', '["x", 3]'), r"stages.words.words.1: found 3, expected text in quotes"),
        (TOY.replace('"@words"', '"@wodrs"'), r"stages.count.of\[0\]: no stage is called 'wodrs' \(did you mean 'words'\?\)"),
        (TOY.replace('"@words"', '"@count"'), r"stages.count.of\[0\]: @count makes report, expected data or samples"),
        (TOY.replace('"toy_words"', '"toy_wrds"'), r"no stage of kind 'toy_wrds' \(did you mean 'toy_words'\?\)"),
        (TOY.replace('of = ["@words"]', ""), r"stages.count.of: is missing and has no safe default"),
        (TOY.replace('name = "toy"', 'nmae = "toy"'), r"nmae: unknown setting \(did you mean 'name'\?\)"),
        (TOY.replace('name = "toy"', 'name = "../toy"'), r"name: found '../toy'"),
        (TOY.replace('name = "toy"', 'name = "toy'), r"is not TOML"),
        ("name = 'x'", r"stages: there are none"),
    ],
)
def test_a_faulty_recipe_is_refused_with_place_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ordered(load_recipe(write(tmp_path / "toy.toml", text)).stages)


def test_all_faults_of_a_recipe_are_told_at_once(tmp_path: Path) -> None:
    text = TOY.replace("words = [", "wrods = [").replace("of = [", "fo = [")
    with pytest.raises(SettingsError) as caught:
        load_recipe(write(tmp_path / "toy.toml", text))
    assert {"wrods", "fo"} <= {word.split(":")[0].split(".")[-1] for line in str(caught.value).splitlines() for word in line.split() if "stages." in word}


def test_a_missing_recipe_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="herdling new"):
        load_recipe(tmp_path / "none.toml")


ROUNDS = """
name = "rounds"
[stages.first]
kind = "toy_count"
of = ["@words"]
[stages.second]
like = "first"
[stages.words]
kind = "toy_words"
words = ["x"]
stop_after = 7
[stages.more_words]
like = "words"
words = ["y"]
"""


def test_a_stage_like_another_is_the_same_as_one_written_out(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "rounds.toml", ROUNDS))
    written = ROUNDS.replace('like = "first"', 'kind = "toy_count"\nof = ["@words"]').replace('like = "words"', 'kind = "toy_words"\nstop_after = 7')
    assert "like" not in written
    assert recipe.stages == load_recipe(write(tmp_path / "written.toml", written)).stages
    assert recipe.stages["more_words"].words == ("y",)
    assert recipe.stages["more_words"].stop_after == 7


def test_an_override_of_a_stage_reaches_those_that_are_like_it(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "rounds.toml", ROUNDS), ["stages.words.stop_after=9"])
    assert recipe.stages["more_words"].stop_after == 9


def test_tables_of_a_stage_grow_by_what_a_stage_like_it_adds(tmp_path: Path) -> None:
    text = """
[stages.reward_v1]
kind = "reward"
model = "@sft"
comparisons = { v1 = "@collect_v1" }
[stages.reward_v2]
like = "reward_v1"
comparisons = { v2 = "@collect_v2" }
"""
    recipe = load_recipe(write(tmp_path / "two.toml", text))
    assert recipe.stages["reward_v2"].comparisons == {"v1": "@collect_v1", "v2": "@collect_v2"}
    assert recipe.stages["reward_v1"].comparisons == {"v1": "@collect_v1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ROUNDS.replace('like = "first"', 'like = "frist"'),
            r"stages.second.like: no stage is called 'frist' \(did you mean 'first'\?\); there are: first, words",
        ),
        (ROUNDS.replace('like = "first"', "like = 3"), r"stages.second.like: no stage is called 3"),
        (ROUNDS.replace('like = "first"', 'like = "second"'), r"stages.second.like: goes round in a circle: second -> second"),
        (ROUNDS.replace("stop_after = 7", 'like = "more_words"'), r"like: goes round in a circle: words -> more_words -> words"),
        (ROUNDS.replace('like = "first"', 'like = "first"\nkind = "toy_words"'), r"stages.second.kind: found 'toy_words', but first is a toy_count"),
        (ROUNDS.replace('like = "words"', 'like = "words"\nstop_aftr = 1'), r"stages.more_words.stop_aftr: unknown setting \(did you mean 'stop_after'\?\)"),
    ],
)
def test_likeness_to_nothing_to_itself_or_to_another_kind_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_recipe(write(tmp_path / "rounds.toml", text))
