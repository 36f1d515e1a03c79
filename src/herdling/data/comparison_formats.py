"""Comparisons in the rows of other projects: found by their fields, read and written, and what does not fit set aside by name.

    herdling         our own rows, whole (`base.comparison_records`)
    trl              {"prompt", "chosen", "rejected"}, or {"chosen", "rejected"} with the prompt at the beginning of both; texts or messages; "margin", "tools"
    trl_implicit     the same without a prompt, two texts parted where they differ as TRL parts them; never taken unless it is named
    openai           {"input": {"messages", "tools"}, "preferred_output", "non_preferred_output"}
    sharegpt         {"conversations", "chosen", "rejected", "system", "tools"}
    alpaca           {"instruction", "input", "chosen", "rejected", "system", "history"}
    hh               {"chosen", "rejected"}: transcripts "\\n\\nHuman: ...\\n\\nAssistant: ..."
    helpsteer3       {"context", "response1", "response2", "overall_preference"}
    helpsteer2       {"prompt", "response_1", "response_2", "preference_strength"}; or {"prompt", "response", "helpfulness", ...}, one answer a row
    best_of_k        {"prompt", "responses", "rewards"}
    stackexchange    {"prompt", "chosen", "rejected", "score_chosen", "score_rejected", "rating"}

A form holds what its columns can say; `Form.loses` names the rest. Nothing is guessed: a column that no form has, a tie, a prompt that cannot be told from
its answers sets the row aside. Costs about 100 bytes a row, for duplicates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from herdling.base.comparison_records import UNLABELLED, comparison_from_row, comparison_to_row, fault
from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.data.dialogs import RowFault, dialog_fault
from herdling.data.graded_forms import (
    ATTRIBUTES,
    join_singles,
    read_best_of_k,
    read_helpsteer2,
    read_helpsteer3,
    write_best_of_k,
    write_helpsteer3,
)
from herdling.data.holdout import DUPLICATE, Seen
from herdling.data.pair_forms import (
    read_alpaca,
    read_openai,
    read_sharegpt,
    read_stackexchange,
    read_trl,
    read_trl_implicit,
    write_alpaca,
    write_openai,
    write_openai_chat,
    write_sharegpt,
    write_stackexchange,
    write_trl,
    write_trl_implicit,
    write_trl_text,
)
from herdling.data.rows import HUB_PREFIX, ROW_ENDINGS, ending, read_hub_rows, read_rows
from herdling.data.sources import find_files, is_unicode
from herdling.data.transcripts import START, read_hh, write_hh
from herdling.types import Campaign, Comparison, Message, Rating

Row = Mapping[str, Any]
PAIR_LOSES = ("responses between the best and the worst", "rating", "safety labels", "who judged, when and how long", "which model answered, and how", "sides")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of rows. `needed` tells it; `columns` are all that it knows."""

    needed: frozenset[str]
    columns: frozenset[str]
    read: Callable[[Row, str], Comparison] | None
    write: Callable[[Comparison], dict[str, Any]] | None
    loses: tuple[str, ...] = PAIR_LOSES


def _form(needed: str, more: str, read: Callable[[Row, str], Comparison] | None, write: Callable[[Comparison], dict[str, Any]] | None, *loses: str) -> Form:
    names = frozenset(needed.split())
    return Form(needed=names, columns=names | frozenset(more.split()) | {"id"}, read=read, write=write, loses=loses or PAIR_LOSES)


_SHOWN = ("safety labels", "who judged, when and how long", "which model answered, and how")
_OURS = "rating safe edited campaign annotator simulated round seconds metadata"
# In the order in which a row's fields are tried: the more particular first.
FORMS: dict[str, Form] = {
    "herdling": Form(
        needed=frozenset(("dialog", "responses", "ranking")),
        columns=frozenset(f"id dialog responses ranking {_OURS}".split()),
        read=comparison_from_row,
        write=comparison_to_row,
        loses=(),
    ),
    "openai": _form("input preferred_output", "non_preferred_output", read_openai, write_openai),
    "helpsteer3": _form("context response1 response2 overall_preference", "domain language individual_preference", read_helpsteer3, write_helpsteer3, *_SHOWN),
    "helpsteer2": _form(
        "prompt response_1 response_2 preference_strength",
        "split preference_statement preference_elaboration three_most_similar_preferences all_preferences_unprocessed",
        read_helpsteer2,
        None,
    ),
    "best_of_k": _form("prompt responses rewards", "grades", read_best_of_k, write_best_of_k, "rating", *_SHOWN),
    "sharegpt": _form("conversations chosen rejected", "system tools", read_sharegpt, write_sharegpt),
    "alpaca": _form("instruction chosen rejected", "input output system history", read_alpaca, write_alpaca),
    "stackexchange": _form(
        "prompt chosen rejected score_chosen score_rejected",
        "rating site qid accepted",
        read_stackexchange,
        write_stackexchange,
        PAIR_LOSES[0],
        *PAIR_LOSES[2:],
    ),
    "hh": _form("chosen rejected", "", read_hh, write_hh),
    "trl": _form("chosen rejected", "prompt margin tools", read_trl, write_trl),
    "trl_implicit": _form("chosen rejected", "margin tools", read_trl_implicit, write_trl_implicit),
    "trl_text": _form("prompt chosen rejected", "margin tools", None, write_trl_text),
    "openai_chat": _form("messages", "tools", None, write_openai_chat, "all responses but the best", *PAIR_LOSES[1:]),
}
READABLE = {name: form for name, form in FORMS.items() if form.read}
WRITABLE = {name: form for name, form in FORMS.items() if form.write}
ONE_A_ROW = f"one answer a row: prompt, response, {', '.join(ATTRIBUTES)}"
ACCEPTED = "; ".join([*(f"{name}: {', '.join(sorted(form.needed))}" for name, form in READABLE.items()), ONE_A_ROW])


def find_form(row: Row) -> str | None:
    """Return the name of the form of a row, told by its fields; None where it has none that we read."""
    found = next((name for name, form in READABLE.items() if form.needed <= set(row)), None)
    if found == "hh" and ("prompt" in row or not all(isinstance(row[name], str) and row[name].startswith(START) for name in ("chosen", "rejected"))):
        return "trl"
    return found


def import_comparisons(
    spec: str,
    ledger: Ledger,
    *,
    form: str | None = None,
    campaign: Campaign = "helpfulness",
    margins: Mapping[Rating, float] | None = None,
    more_columns: Iterable[str] = (),
    safety_labels: bool = True,
) -> Iterator[Comparison]:
    """Yield the comparisons of a file, folder, glob or `hf:org/name`, counting rows read and set aside. The caller counts what it keeps.

    `form` names the form of the rows; None finds it for each row. `campaign` is what was judged, for rows that do not say. `margins` is the table that a column
    `margin` was made with, and turns it back into ratings. `more_columns` are columns that no form has: they go to the metadata, others set the row aside.
    Without `safety_labels`, rows judged for safety are taken though nobody was asked whether each response is safe; each says so in its metadata.

    Raises:
        DataError: nothing to read at `spec`, a damaged file, or a file whose first row has none of the known forms.
        SettingsError: no such form.
    """
    if form is not None and form not in READABLE:
        raise SettingsError(f"form: no form {form!r} to read{did_you_mean(form, READABLE)}; there are: {', '.join(READABLE)}")
    more, seen, ids = frozenset(more_columns), Seen(), Seen()
    for rows in _files(spec, ledger):
        known = False
        for where, full in join_singles(_without_nulls(rows)):
            found = form or find_form(full)
            if not known and (found is None or (form is not None and not FORMS[form].needed <= set(full))):
                raise DataError(f"{where}: no comparison in the fields {', '.join(full)}; accepted are {ACCEPTED if form is None else f'those of {form}'}")
            known = True
            try:
                comparison = _read(full, where, found, more, campaign, margins)
                if not safety_labels and found != "herdling" and campaign == "safety" and comparison.safe is None:
                    comparison = replace(comparison, metadata={**comparison.metadata, **UNLABELLED})
                _check(comparison, seen, ids)
            except RowFault as bad:
                ledger.drop(bad.reason, f"{where}: {bad.found}")
                continue
            yield comparison


def _files(spec: str, ledger: Ledger) -> Iterator[Iterator[tuple[str, Row]]]:
    if spec.startswith(HUB_PREFIX):
        yield read_hub_rows(spec, ledger)
        return
    files = [file for file in find_files(spec, ledger) if ending(file) in ROW_ENDINGS]
    if not files:
        raise DataError(f"{spec}: no file of comparisons there; accepted: {', '.join(ROW_ENDINGS)}, also with .gz or .zst")
    for file in files:
        yield read_rows(Path(file), ledger)


def _without_nulls(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Leave out columns without a value: parquet files and datasets give each row all columns of the file."""
    for where, row in rows:
        yield where, {name: value for name, value in row.items() if value is not None}


def _read(full: Row, where: str, found: str | None, more: frozenset[str], campaign: Campaign, margins: Mapping[Rating, float] | None) -> Comparison:
    """Read one row. Raises `RowFault`."""
    form = FORMS[found] if found is not None else None
    row = {name: value for name, value in full.items() if name not in more or (form is not None and name in form.needed)}
    if form is None or form.read is None or not form.needed <= set(row):
        raise RowFault("no known form", f"fields {', '.join(full)}")
    unknown = set(row) - form.columns
    if unknown:
        has = ", ".join(sorted(form.columns))
        raise RowFault("unknown columns", f"{', '.join(sorted(unknown))}; {found} has {has}; name them in more_columns to keep them as metadata")
    try:
        comparison = form.read(row, where)
    except DataError as error:  # our own rows say what is wrong with them in one line
        text = str(error).removeprefix(f"{where}: ").removeprefix(f"{where}, ")
        raise RowFault(text.partition(":")[0] if ":" in text else "not our row", text) from None
    kept = {name: full[name] for name in more if name in full and name not in row}
    rating = comparison.rating
    if margins is not None and rating is None and "margin" in comparison.metadata:
        rating = _rating_of(comparison.metadata["margin"], margins)
    own = found == "herdling"
    return replace(comparison, rating=rating, campaign=comparison.campaign if own else campaign, metadata={**comparison.metadata, **kept})


def _rating_of(margin: float, margins: Mapping[Rating, float]) -> Rating:
    fitting = [rating for rating, value in margins.items() if abs(value - margin) < 1e-6]
    if len(fitting) != 1:
        raise RowFault("margin outside the table", f"found {margin}, accepted: {', '.join(f'{value:g}' for value in margins.values())}")
    return fitting[0]


def _check(comparison: Comparison, seen: Seen, ids: Seen) -> None:
    """Raise `RowFault` for a comparison that cannot be used, or that was read before."""
    found = fault(comparison)
    if found is not None:
        reason, _, what = found.partition(": ")
        raise RowFault(reason, what)
    told = dialog_fault(replace(comparison.dialog, messages=(*comparison.dialog.messages, Message(role="assistant", content="an answer"))))
    if told is not None:
        raise RowFault(*told)
    if not all(is_unicode(response.message.content) for response in comparison.responses):
        raise RowFault("not valid Unicode", "a response")
    if not seen.add(_said(comparison)):
        raise RowFault(DUPLICATE, comparison.id)
    if not ids.add(comparison.id):
        raise RowFault("id used twice", comparison.id)


def _said(comparison: Comparison) -> str:
    """Return what was compared, by whom and how it was judged, as one text: equal for exact duplicates."""
    row = comparison_to_row(replace(comparison, id="", dialog=replace(comparison.dialog, id=""), seconds=None, metadata={}))
    return json.dumps(row, sort_keys=True)


def export_comparisons(path: Path, comparisons: Iterable[Comparison], form: str, ledger: Ledger, *, margins: Mapping[Rating, float] | None = None) -> int:
    """Write comparisons as rows of a form to a .jsonl file, atomically. Returns how many; what the form cannot say is set aside in the ledger, by name.

    With `margins`, ratings are written as TRL's column `margin`. The ledger counts what is lost by the form itself: `left out: ...`.

    Raises:
        SettingsError: no such form.
        DataError: not one comparison can be expressed; `path` is untouched then.
    """
    if form not in WRITABLE:
        raise SettingsError(f"form: no form {form!r} to write{did_you_mean(form, WRITABLE)}; there are: {', '.join(WRITABLE)}")
    for what in WRITABLE[form].loses:
        ledger.counts[f"left out: {what}"] = "always, where known"
    rows = list(_rows(comparisons, form, ledger, margins))
    ledger.check(1.0)
    return write_jsonl(path, rows)


def _rows(comparisons: Iterable[Comparison], form: str, ledger: Ledger, margins: Mapping[Rating, float] | None) -> Iterator[dict[str, Any]]:
    write = WRITABLE[form].write
    assert write is not None  # else it is not in WRITABLE
    for comparison in comparisons:
        ledger.read()
        if margins is not None and comparison.rating is not None:
            comparison = replace(comparison, metadata={**comparison.metadata, "margin": margins[comparison.rating]})
        try:
            row = write(comparison)
        except RowFault as bad:
            ledger.drop(bad.reason, f"{comparison.id}: {bad.found}")
            continue
        ledger.keep()
        yield row if form in ("herdling", "openai", "openai_chat") else {"id": comparison.id, **row}
