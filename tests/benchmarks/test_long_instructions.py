"""What the benchmark on long instructions counts as right content, and that its recipe is one once its places are filled in."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from herdling.recipe import load_recipe
from herdling.stages.ghost_attention import GhostAttention
from herdling.stages.retention import Retention


def row(given: str, answer: str, **changed: Any) -> dict[str, Any]:
    return {"model": "with", "asked": "once", "part": "new", "turn": 2, "obeyed": True, "given": given, "answer": answer} | changed


def test_content_is_the_words_of_the_right_answer_whatever_their_form(script: Callable[[str], ModuleType]) -> None:
    right = [row("It is in textwrap.", "_it is in textwrap_"), row("7", "Sure: 7!"), row("Use os.path.join.", "# Use os.path.join, Anna.")]
    wrong = [row("It is in textwrap.", "It is in text."), row("7", "17")]
    rows = [*right, *wrong, row("7", "8", obeyed=None), row("7", "7", asked="reminded"), row("7", "8", turn=20, model="without")]
    found = script("long_instructions").right_content(rows)
    assert found == {"with": {"once": {"new": {"2": 0.6}}, "reminded": {"new": {"2": 1.0}}}, "without": {"once": {"new": {"20": 0.0}}}}


def test_its_recipe_names_every_wish_and_what_is_held_out(script: Callable[[str], ModuleType], tmp_path: Any) -> None:
    long_instructions, wishes = script("long_instructions"), script("many_wishes")
    places = {name: tmp_path / name.lower() for name in ("MODEL", "LONG", "AGAIN", "DATA")}
    (tmp_path / "recipe.toml").write_text(long_instructions.filled_in(places))
    stages = load_recipe(tmp_path / "recipe.toml").stages
    retention = stages["retention"]
    assert isinstance(retention, Retention)
    for ghost in (stages["ghost_attention"], stages["ghost_last"]):
        assert isinstance(ghost, GhostAttention)
        assert set(ghost.constraints["form"].values) == {value for family in wishes.FAMILIES.values() for value in family.obey}
        assert set(ghost.constraints["form"].held_out) == {value for family in wishes.FAMILIES.values() for value in family.held_out}
        assert ghost.without == retention.without == wishes.OWN_WISH
    assert retention.turns == (2, 4, 6, 20)
    assert retention.num_dialogs >= 50
