"""The report card: complete, self-contained, safe against every text, and honest about what is missing."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import takewhile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from herdling.base.artifact import Artifact
from herdling.base.errors import LineageError
from herdling.base.ledger import Ledger
from herdling.report.card import RunCard, read_run
from herdling.report.chart import Interval, bar_chart, interval_chart, line_chart, ticks
from herdling.report.curves import Curve, CurveChart, stage_charts, thinned
from herdling.report.lineage import edges, lineage_chart, lineage_lines
from herdling.report.page import asked, headline, html_page, markdown_page, write_report
from herdling.report.tables import Table, bits_table, ledger_table, markdown_text, mixture_table, questions_table
from herdling.stages.registry import StageRun
from herdling.stages.report import Report
from tests.made_run import HOSTILE, SOURCES


class Reader(HTMLParser):
    """Collects the tags, attributes and text of a page, and checks that it nests."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def card(made_run: list[Artifact]) -> RunCard:
    return read_run(made_run, title="quickstart <1>", description="A baby assistant.")


@pytest.fixture
def page(card: RunCard) -> Reader:
    reader = Reader()
    reader.feed(html_page(card))
    return reader


def test_page_nests_and_shows_each_part(page: Reader) -> None:
    assert page.open == []
    for part in ("What each stage bought", "Curves", "What it says", "What was made", "Data mix of pretrain", "Ledger", "Lineage", "Settings"):
        assert part in page.text, part
    for source in SOURCES:
        assert source in page.text


def test_page_needs_nothing_from_elsewhere_and_runs_no_script(page: Reader) -> None:
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert not [value for _, value in page.attributes if value and "//" in value]


def test_texts_of_users_and_models_are_shown_as_they_are(page: Reader) -> None:
    # In a sample (prompt and answer), a setting, a dropped row and a checked question.
    assert page.text.count(HOSTILE) >= 6
    assert "b" not in page.tags[: page.tags.index("body")]


def test_markdown_keeps_its_tables_whole_whatever_a_cell_says(card: RunCard) -> None:
    lines = markdown_page(card).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|---"):
            wide = line.count("|")
            rows = takewhile(lambda row: row.startswith("|"), lines[number + 1 :])
            assert all(row.replace("\\|", "").count("|") == wide for row in rows)
    assert "<script>" not in markdown_page(card)


def test_markdown_text_escapes_what_means_something_and_nothing_else() -> None:
    assert markdown_text("tokens_per_second is 3.1e-06 (62-80%)") == "tokens_per_second is 3.1e-06 (62-80%)"
    assert markdown_text("__init__ | <b> &amp;\n*x*") == r"\_\_init\_\_ \| \<b\> \&amp; \*x\*"


def test_report_is_the_same_for_the_same_artifacts(card: RunCard, tmp_path: Path) -> None:
    write_report(tmp_path, card)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html_page(card)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == markdown_page(card)


def test_headline_counts_the_questions_that_were_answered_right(card: RunCard) -> None:
    # 71 + 6 + 52 + 38 + 20 of 100 + 80 + 60 + 40 + 20; the base answers one.
    assert headline(card) == "Of 300 questions never seen in training, sft answers 187 right, base 1. All of it took 7m 58s."


def test_quality_tables_name_interval_total_and_compressor(card: RunCard) -> None:
    questions, bits = questions_table(card), bits_table(card)
    assert questions is not None
    assert bits is not None
    assert questions.columns == ["group", "asked", "base", "sft"]
    assert questions.rows[0][0:2] == ["new wordings", "100"]
    assert questions.rows[0][3].startswith("71% (")
    assert bits.columns == ["source", "base", "sft", "xz"]
    assert bits.rows[0] == ["library", "1.620", "1.670", "1.900"]


def test_a_base_model_is_shown_with_the_examples_that_its_context_held(card: RunCard) -> None:
    table = questions_table(card)
    assert table is not None
    assert table.note.endswith("base is a base model, asked in plain text; of 4 examples its context held 1.5 before a question on average, at least 0.")
    assert table.note in markdown_page(card)


def test_a_run_without_evaluation_or_training_still_has_a_report(made_run: list[Artifact]) -> None:
    card = read_run(made_run[:2], title="half a run")
    assert questions_table(card) is None
    assert headline(card) == ""
    reader = Reader()
    reader.feed(html_page(card))
    assert reader.open == []
    assert "Curves" not in reader.text
    assert "## Lineage" in markdown_page(card)


def test_answers_of_all_models_stand_side_by_side(card: RunCard) -> None:
    first = asked(card.answers)[0]
    assert first.answers == {"base": ("def __init__(self):", False), "sft": ("collections", True)}
    # The first of each group, not the best: number 1 is wrong for both.
    assert [right for _, right in asked(card.answers)[1].answers.values()] == [False, False]


def test_mixture_and_ledger_come_from_the_artifacts(card: RunCard) -> None:
    pretrain = next(stage for stage in card.stages if stage.name == "pretrain")
    mix = mixture_table(pretrain)
    assert mix is not None
    assert mix.rows[2][:4] == ["topics (capped)", "10.0%", "10.0%", "10.1%"]
    ledger = ledger_table(card.stages[0])
    assert ledger is not None
    assert ["set aside: exact duplicate", "412", "lib2to3/tests/data/x.py: same text as y.py"] in ledger.rows


def test_a_real_ledger_is_read_as_it_was_written(made_run: list[Artifact]) -> None:
    ledger = Ledger("sft")
    ledger.read(3)
    ledger.keep(2)
    ledger.drop("fully masked", "dialogs/train.jsonl, line 3: no answer")
    ledger.write(made_run[1].folder / "ledger.json")
    table = ledger_table(read_run(made_run, title="x").stages[1])
    assert table is not None
    assert table.rows == [["rows read", "3", ""], ["kept", "2", ""], ["set aside: fully masked", "1", "dialogs/train.jsonl, line 3: no answer"]]


def test_curves_skip_steps_that_were_not_finite_and_keep_their_level_when_thinned(card: RunCard) -> None:
    pretrain = next(stage for stage in card.stages if stage.name == "pretrain")
    titles = [chart.title for chart in stage_charts(pretrain)]
    assert titles == ["Training loss", "Validation", "Speed", "Learning rate"]
    assert len(stage_charts(pretrain)[1].curves) == len(SOURCES)
    points = [(float(x), float(x % 2)) for x in range(1000)]
    assert len(thinned(points, 100)) == 100
    assert {y for _, y in thinned(points, 100)} == {0.5}
    assert thinned(points[:5], 100) == points[:5]


@pytest.mark.parametrize(("low", "high"), [(0.0, 7.3e6), (1.61, 2.52), (0.0, 0.003), (2.0, 2.0), (0.0, 0.0), (-3.0, -1.0)])
def test_ticks_enclose_the_values_in_few_round_steps(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-9
    assert 2 <= len(found) <= 9


def test_charts_are_xml_whose_labels_are_text() -> None:
    curve = CurveChart(title=HOSTILE, x_unit="tokens", y_unit="nats", curves=[Curve(label=HOSTILE, points=[(0.0, 1.0), (10.0, 0.5)])])
    interval = [(HOSTILE, [Interval(label=HOSTILE, value=0.5, low=0.4, high=0.6)])]
    for svg in (line_chart(curve), interval_chart(interval, HOSTILE), bar_chart([(HOSTILE, 0.0, HOSTILE)], "t")):
        assert ET.fromstring(svg).tag == "svg"
        assert "<script>" not in svg


def test_lineage_draws_an_arc_for_each_input(card: RunCard) -> None:
    names = [stage.name for stage in card.stages]
    assert (names.index("pretrain"), names.index("sft")) in edges(card.stages)
    assert lineage_chart(card.stages).count("<path") == len(edges(card.stages)) == 11
    assert lineage_lines(card.stages)[-1].endswith("from sft")


def test_table_without_numbers_is_left_aligned() -> None:
    assert Table(title="t", columns=["a", "b"], rows=[["1", "2"]], numeric=False).to_markdown().splitlines()[1] == "|---|---|"


def test_report_stage_writes_both_files_and_refuses_what_is_no_artifact(made_run: list[Artifact], tmp_path: Path) -> None:
    folder = tmp_path / "mine" / ".report.partial"
    folder.mkdir(parents=True)
    artifacts = {f"@{artifact.folder.name}": artifact for artifact in made_run}
    run = StageRun(name="report", folder=folder, seed=1, inputs={name: artifact.folder for name, artifact in artifacts.items()}, artifacts=artifacts)
    Report(of=list(artifacts)).run(run)
    assert "<h1>mine</h1>" in (folder / "report.html").read_text(encoding="utf-8")
    assert run.summary == {"artifacts": 7}
    with pytest.raises(LineageError, match="models/llama is no artifact"):
        Report(of=["models/llama"]).run(run)
