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
        (TOY.replace("words = [", "wrods = ["), r"stages.words.wrods: unknown setting \(did you mean 'words'\?\); accepted here: words, stop_after, tokenizer"),
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
