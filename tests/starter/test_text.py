"""The built-in texts: always the same, split by module across sources, and clear about what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.base.ledger import Ledger
from herdling.starter.facts import MODULES
from herdling.starter.text import SOURCES, documents


@pytest.fixture(scope="module")
def texts() -> dict[str, dict[str, tuple[str, str]]]:
    """Source -> module or topic -> (split, text)."""
    return {name: {d.id.partition("/")[2]: (d.metadata["split"], d.text) for d in documents(name)} for name in SOURCES if name != "packages"}


def test_every_source_has_text_for_training_and_for_validation(texts: dict[str, dict[str, tuple[str, str]]]) -> None:
    for name, least in {"library": 3_000_000, "docstrings": 500_000, "topics": 100_000}.items():
        splits = {"train": 0, "validation": 0}
        for split, text in texts[name].values():
            splits[split] += len(text)
        assert splits["train"] > least
        assert 0.005 < splits["validation"] / splits["train"] < 0.35


def test_a_module_stands_on_one_side_in_every_source(texts: dict[str, dict[str, tuple[str, str]]]) -> None:
    for module, (split, _) in texts["docstrings"].items():
        assert texts["library"].get(module, (split, ""))[0] == split


def test_modules_that_the_dialogs_ask_about_are_never_held_out(texts: dict[str, dict[str, tuple[str, str]]]) -> None:
    assert all(texts[name][module][0] == "train" for name in ("library", "docstrings") for module in MODULES if module in texts[name])


def test_topics_say_each_paragraph_once(texts: dict[str, dict[str, tuple[str, str]]]) -> None:
    paragraphs = [part.strip() for _, text in texts["topics"].values() for part in text.split("\n\n") if len(part.strip()) > 60]
    assert len(paragraphs) == len(set(paragraphs))


def test_docstrings_stand_under_their_signatures(texts: dict[str, dict[str, tuple[str, str]]]) -> None:
    assert "function textwrap.dedent(text)\n    Remove any common leading whitespace" in texts["docstrings"]["textwrap"][1]
    assert "function textwrap.TextWrapper.wrap(text)\n" in texts["docstrings"]["textwrap"][1]


def test_reading_twice_gives_the_same_documents() -> None:
    assert list(documents("topics")) == list(documents("topics"))


def test_a_misspelt_source_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"starter:libary: no built-in source of this name \(did you mean 'library'\?\); there are: library, docstrings, topics"
    ):
        list(documents("libary"))


def test_an_installation_without_topics_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"topics\.py: this Python comes without the topics of help\(\)"):
        list(documents("topics", folder=tmp_path))


def test_what_cannot_be_parsed_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "sound.py").write_text(f'"""A module. {"Long enough. " * 30}"""\n')
    ledger = Ledger("starter")
    assert [document.id for document in documents("docstrings", ledger, folder=tmp_path)] == ["docstrings/sound"]
    assert ledger.dropped == {"not readable as Python": 1}
    assert ledger.rows_in == 2
