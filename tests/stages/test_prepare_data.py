"""The stage prepare_data: nothing lost, nothing held out in training, clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError, SettingsError, Stopped
from herdling.base.records import read_jsonl
from herdling.recipe import Runner, decode_recipe
from herdling.stages.prepare_data import PrepareData
from herdling.stages.registry import StageRun


def prepare(folder: Path, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    stage = decode(PrepareData, settings, "stages.prepare_data")
    stage.run(StageRun(name="prepare_data", folder=folder, seed=1))
    ledger: dict[str, Any] = json.loads((folder / "ledger.json").read_text())
    return ledger


def texts(folder: Path, name: str) -> list[str]:
    return [row["text"] for _, row in read_jsonl(folder / "documents" / f"{name}.jsonl")]


def questions_in(folder: Path, split: str) -> set[str]:
    rows = [row for _, row in read_jsonl(folder / "dialogs" / f"{split}.jsonl")]
    return {message["content"] for row in rows for message in row["messages"] if message["role"] == "user"}


def write_texts(path: Path, count: int, start: int = 0) -> Path:
    path.write_text("".join(json.dumps({"text": f"document {index}"}) + "\n" for index in range(start, start + count)))
    return path


def test_every_document_is_on_one_side_or_in_the_ledger(tmp_path: Path) -> None:
    first, second = write_texts(tmp_path / "a.jsonl", 300), write_texts(tmp_path / "b.jsonl", 300, start=200)
    ledger = prepare(tmp_path / "out", sources={"a": str(first), "b": {"path": str(second)}}, validation_share=0.1)
    sides = {name: set(texts(tmp_path / "out", name)) for name in ("a.train", "a.validation", "b.train", "b.validation")}
    assert sum(map(len, sides.values())) == 500 == len(set.union(*sides.values()))
    assert ledger["dropped"] == {"exact duplicate": {"count": 100, "examples": ["b.jsonl:0", "b.jsonl:1", "b.jsonl:2", "b.jsonl:3", "b.jsonl:4"]}}
    assert (ledger["rows_in"], ledger["kept"]) == (600, 500)
    assert len(sides["a.validation"]) >= 8 <= len(sides["b.validation"])


def test_the_same_data_gives_the_same_files_and_a_second_run_in_a_folder_left_half_done_too(tmp_path: Path) -> None:
    source = str(write_texts(tmp_path / "a.jsonl", 100))
    prepare(tmp_path / "one", sources={"a": source})
    half = tmp_path / "two"
    (half / "documents").mkdir(parents=True)
    (half / "documents" / ".partial-a.train.jsonl").write_text("half a li")
    prepare(half, sources={"a": source})
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(half) for path in half.rglob("*") if path.is_file())
    assert all((tmp_path / "one" / file).read_bytes() == (half / file).read_bytes() for file in files)


def test_the_starter_gives_its_own_split_dialogs_and_questions_and_none_is_asked_in_training(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ledger = prepare(out, sources={"topics": "starter:topics"}, dialogs="starter:dialogs")
    assert texts(out, "topics.train")
    assert texts(out, "topics.validation")
    questions = [row for _, row in read_jsonl(out / "questions.jsonl")]
    asked = {row["dialog"]["messages"][-1]["content"].casefold() for row in questions}
    assert len(questions) > 100
    assert not asked & {text.casefold() for text in questions_in(out, "train")}
    assert questions_in(out, "train")
    assert questions_in(out, "validation")
    assert ledger["counts"]["dialogs.train rows"] + ledger["counts"]["dialogs.validation rows"] + ledger["counts"]["topics.train rows"] < ledger["kept"]


def test_dialogs_of_the_user_are_split_by_their_opening_question(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {index % 100}", "completion": f"Answer {index}"} for index in range(300)]
    rows.append(rows[0])
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ledger = prepare(tmp_path / "out", sources={"a": str(write_texts(tmp_path / "a.jsonl", 20))}, dialogs=str(path), validation_share=0.1)
    train, validation = questions_in(tmp_path / "out", "train"), questions_in(tmp_path / "out", "validation")
    assert not train & validation
    assert len(train | validation) == 100
    assert ledger["dropped"]["exact duplicate"]["count"] == 1
    assert list(read_jsonl(tmp_path / "out" / "questions.jsonl")) == []


def test_few_demonstrations_are_the_first_of_many_and_what_is_held_out_stays(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {index}", "completion": f"Answer {index}"} for index in range(200)]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held: list[list[dict[str, Any]]] = []
    for most in (20, 50, None):
        ledger = prepare(tmp_path / str(most), sources={}, dialogs=str(path), max_dialogs=most, validation_share=0.1)
        held.append([[row for _, row in read_jsonl(tmp_path / str(most) / "dialogs" / f"{split}.jsonl")] for split in ("train", "validation")])
        dropped = ledger["dropped"].get("more than max_dialogs", {"count": 0})["count"]
        assert dropped == 200 - len(held[-1][0]) - len(held[-1][1])
    assert [len(train) for train, _ in held[:2]] == [20, 50]
    assert held[0][0] == held[1][0][:20] == held[2][0][:20]
    assert held[0][1] == held[1][1] == held[2][1]


def test_one_large_text_file_is_cut_so_that_some_of_it_can_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("".join(f"Paragraph {index}.\n\n" for index in range(20_000)))
    prepare(tmp_path / "out", sources={"play": {"path": str(tmp_path / "input.txt"), "piece_chars": 10_000}})
    assert len(texts(tmp_path / "out", "play.validation")) == 3
    assert len("".join(texts(tmp_path / "out", "play.train") + texts(tmp_path / "out", "play.validation"))) == len((tmp_path / "input.txt").read_text())


def test_too_many_bad_rows_fail_with_reasons_and_an_example(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.jsonl", 9)
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(DataError, match=r"prepare_data\.sources\.a: 1 of 10 rows \(10\.0%\).*not JSON: 1.*a\.jsonl, line 10"):
        prepare(tmp_path / "out", sources={"a": str(path)})
    assert prepare(tmp_path / "out", sources={"a": str(path)}, max_dropped_share=0.2)["kept"] == 9


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match=r"prepare_data\.sources\.a: no row is left of 0 read"):
        prepare(tmp_path / "out", sources={"a": str(tmp_path / "a.jsonl")})


def test_wrong_names_are_told_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no text 'topic' in the starter \(did you mean 'topics'\?\)"):
        prepare(tmp_path, sources={"a": "starter:topic"})
    with pytest.raises(SettingsError, match="the embedded dialogs are called 'starter:dialogs'"):
        prepare(tmp_path, sources={}, dialogs="starter:chat")
    with pytest.raises(SettingsError, match=r"sources\.\.\./x: names become file names"):
        prepare(tmp_path, sources={"../x": "a.txt"})
    with pytest.raises(SettingsError, match=r"validation_share: found 1\.5"):
        prepare(tmp_path, sources={}, validation_share=1.5)


def test_a_text_that_changed_after_the_stage_was_made_is_refused_by_name(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.jsonl", 20)
    recipe = decode_recipe({"name": "r", "seed": 1, "stages": {"prepare": {"kind": "prepare_data", "sources": {"a": str(path)}}}})
    Runner(recipe=recipe, runs=tmp_path / "runs").run()
    Runner(recipe=recipe, runs=tmp_path / "runs").run()
    write_texts(path, 21)
    with pytest.raises(LineageError, match=r"a\.jsonl: was '[0-9a-f]{12}', now '[0-9a-f]{12}'"):
        Runner(recipe=recipe, runs=tmp_path / "runs").run()
    path.unlink()
    with pytest.raises(DataError, match=r"a\.jsonl: no such file"):
        Runner(recipe=recipe, runs=tmp_path / "runs").run()


def test_a_wish_to_stop_is_met(tmp_path: Path) -> None:
    stage = decode(PrepareData, {"sources": {"a": str(write_texts(tmp_path / "a.jsonl", 20))}}, "")
    with pytest.raises(Stopped):
        stage.run(StageRun(name="prepare_data", folder=tmp_path, seed=1, stop_requested=lambda: True))


def test_with_one_copy_a_line_no_long_line_stands_twice_anywhere_and_what_is_taken_out_is_counted(tmp_path: Path) -> None:
    licence = "Licensed to whom it may concern"
    rows = [{"text": f"{licence}\n    a line of its own, number {index}\nelse:\n    {licence}"} for index in range(200)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": licence}]))
    ledger = prepare(tmp_path / "out", sources={"a": str(tmp_path / "a.jsonl")}, max_line_copies=1)
    kept = [text.split("\n") for name in ("a.train", "a.validation") for text in texts(tmp_path / "out", name)]
    long = [line.strip() for lines in kept for line in lines if len(line.strip()) >= 12]
    assert len(long) == len(set(long)) == 201
    assert sum(line == "else:" for lines in kept for line in lines) == 200
    assert ledger["dropped"] == {"only repeated lines": {"count": 1, "examples": ["a.jsonl:200"]}}
    before, after = sum(len(row["text"]) for row in rows) + len(licence), sum(len("\n".join(lines)) for lines in kept)
    assert ledger["counts"]["characters of repeated lines"] == before - after


def test_lines_are_left_out_only_from_the_copy_on_that_is_too_many_and_sides_stay_as_they_were(tmp_path: Path) -> None:
    rows = [{"text": f"the same first line\nsomething else, {index}"} for index in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "all", sources={"a": str(tmp_path / "a.jsonl")})
    prepare(tmp_path / "six", sources={"a": str(tmp_path / "a.jsonl")}, max_line_copies=6)
    for side in ("a.train", "a.validation"):
        assert [text.split("\n")[-1] for text in texts(tmp_path / "all", side)] == [text.split("\n")[-1] for text in texts(tmp_path / "six", side)]
    assert sum("the same" in text for side in ("a.train", "a.validation") for text in texts(tmp_path / "six", side)) == 6
