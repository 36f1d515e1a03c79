"""What a reward model reports, as tables and pictures: accuracy beside that of length alone, calibration, where scores lie, safety.

Made from the plain data of `evals.reward.report_card`. The tables are those of Llama 2: accuracy by set (table 7), by rating (tables 8 and 28), by safety
(table 29).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from herdling.report.card import Row, StageCard
from herdling.report.chart import Interval, calibration_chart, histogram_chart, interval_chart
from herdling.report.section import SectionChart, StageSection
from herdling.report.tables import Table, words

BY = {"by_rating": "How much better the chosen one is", "by_turn": "Turn of the dialogue", "by_length": "Length of the chosen response beside the rejected one"}
SIMULATED = "a simulated annotator, a program with stated noise"
MODELS = "the reward models that chose among samples: agreement with them is measured, not with a taste"
BY_LENGTH_ALONE = "by length alone"
ACCURACY_NOTE = (
    "Accuracy: how often the preferred response has the higher score, with its 95 % interval. By length alone: the better of always taking the longer"
    " and always the shorter, known after the fact. Lead: accuracy less that, with the 95 % interval of the paired difference."
)


def reward_section(stage: StageCard) -> StageSection:
    """Return the section of a stage that made a reward model."""
    results, whole = stage.reward, stage.reward["all"]
    tables = [accuracy_table(results), *(_by_table(whole, part) for part in BY if part in whole)]
    further = (ratings_table(results), safety_table(whole), position_table(whole), edits_table(whole), scores_table(whole), mix_table(stage))
    tables += [table for table in further if table]
    return StageSection(stage=stage.name, notes=_notes(stage, whole), tables=tuple(tables), charts=tuple(_charts(whole)))


def _notes(stage: StageCard, whole: Row) -> tuple[str, ...]:
    notes, total = [], whole["accuracy"]["total"]
    for judged, judge in ((whole.get("simulated", 0), SIMULATED), (whole.get("judged_by_models", 0), MODELS)):
        if judged:
            who = "All" if judged == total else f"{judged:,} of the"
            notes.append(f"{who} {total:,} test comparisons were judged by {judge}; no person judged these.")
    margin = stage.settings.get("margin")
    if margin not in ("none",) and stage.settings.get("objective", "llama2") == "llama2":
        notes.append("Trained with a margin: differences of scores are larger than the preferences bear out, so sigmoid(difference) is not a probability.")
    return tuple(notes)


def accuracy_table(results: Row) -> Table:
    """All comparisons, each set and each campaign: accuracy, length baseline, lead, and the limit where it is known."""
    parts: dict[str, Row] = {"all": results["all"]}
    parts |= {f"set {name}": part for name, part in results.get("sets", {}).items() if len(results["sets"]) > 1}
    campaigns = results.get("campaigns", {})
    rows = [[name, *_accuracy_cells(part["accuracy"]), _limit(part.get("limit"))] for name, part in parts.items()]
    rows += [[f"campaign {name}", *_accuracy_cells(row), "-"] for name, row in campaigns.items() if len(campaigns) > 1]
    note = ACCURACY_NOTE
    columns = ["test comparisons", "count", "accuracy", BY_LENGTH_ALONE, "lead", "limit"]
    if all(row[-1] == "-" for row in rows):
        rows, columns = [row[:-1] for row in rows], columns[:-1]
    else:
        note += (
            " Limit: what the hidden gold reward itself scores on these judgements, with its interval; after the stroke the expectation at the stated"
            " noise, the mean of max(p, 1 - p) with p = sigmoid(gold difference / temperature)."
        )
    return Table(title="Accuracy on held-out comparisons", columns=columns, rows=rows, note=note)


def _by_table(whole: Row, part: str) -> Table:
    rows = [[_name(part, name), *_accuracy_cells(row)] for name, row in whole[part].items()]
    return Table(title=f"Accuracy: {BY[part][0].lower()}{BY[part][1:]}", columns=["", "count", "accuracy", BY_LENGTH_ALONE, "lead"], rows=rows)


def ratings_table(results: Row) -> Table | None:
    """Sets by rating, as Llama 2, table 8; only where several sets have ratings."""
    sets = {name: part["by_rating"] for name, part in results.get("sets", {}).items() if "by_rating" in part}
    if len(sets) < 2:
        return None
    levels = [level for level in results["all"]["by_rating"] if any(level in found for found in sets.values())]
    rows = [[name, *(share(found.get(level)) for level in levels), share(results["sets"][name]["accuracy"])] for name, found in sets.items()]
    return Table(title="Accuracy of each set by rating", columns=["set", *levels, "all"], rows=rows)


def safety_table(whole: Row) -> Table | None:
    """Recall at a score of sigmoid 0.5, and accuracy by who is safe (Llama 2, table 29)."""
    safety = whole.get("safety")
    if not safety:
        return None
    rows = [[f"recall of {name} responses", f"{row['total']:,}", share(row, "recall")] for name, row in safety["recall"].items()]
    rows += [[f"accuracy, {name}", f"{row['total']:,}", share(row)] for name, row in safety["split"].items()]
    return Table(title="Safety", columns=["", "count", "share"], rows=rows, note="A response counts as called safe where sigmoid(score) is 0.5 or more.")


def position_table(whole: Row) -> Table | None:
    """Where the chosen response stood, and the accuracy there."""
    found = whole.get("position")
    if not found:
        return None
    rows = [["chosen response stood left", f"{found['total']:,}", _share(found["share_left"], found["low"], found["high"])]]
    rows += [[f"accuracy, {side}", f"{row['total']:,}", share(row)] for side, row in found["accuracy"].items()]
    note = "The model reads each response alone and cannot see where it stood: a share far from 50 % is a bias of who judged, in the data."
    return Table(title="Position", columns=["", "count", "share"], rows=rows, note=note)


def edits_table(whole: Row) -> Table | None:
    """How often edited > chosen and edited > rejected hold (Llama 3, section 4.2.1)."""
    rows = [[name, f"{row['total']:,}", share(row)] for name, row in whole.get("edits", {}).items()]
    return Table(title="Edited responses", columns=["", "count", "accuracy"], rows=rows) if rows else None


def scores_table(whole: Row) -> Table:
    """Where scores lie, and how far they are probabilities."""
    scores, calibration = whole["scores"], whole["calibration"]
    bimodality = scores["bimodality"]
    rows = [
        ["mean score, chosen", f"{scores['mean_chosen']:.3f}"],
        ["mean score, rejected", f"{scores['mean_rejected']:.3f}"],
        ["standard deviation of all scores", f"{scores['deviation']:.3f}"],
        ["bimodality coefficient", "-" if bimodality is None else f"{bimodality:.3f}"],
        ["expected calibration error", f"{calibration['expected_calibration_error']:.3f}"],
        ["log loss, nats a pair (a coin: 0.693)", f"{calibration['log_loss']:.3f}"],
        ["Brier score (a coin: 0.250)", f"{calibration['brier']:.3f}"],
    ]
    note = "Sarle's coefficient: 0.33 for a normal distribution, 0.56 for an even one, 1 for two points; above 0.56 hints at two peaks."
    return Table(title="Scores and calibration", columns=["", "value"], rows=rows, note=note)


def mix_table(stage: StageCard) -> Table | None:
    """What was drawn from each set, as planned and in fact."""
    mix = stage.ledger.get("counts", {}).get("comparison_mix", ())
    rows = [[str(row["set"]), str(row["part"]), *(f"{row[name]:,}" for name in ("available", "planned", "drawn"))] for row in mix]
    return Table(title="Comparisons trained on", columns=["set", "part", "available", "planned", "drawn"], rows=rows) if rows else None


def _charts(whole: Row) -> list[SectionChart]:
    charts = []
    for part, title in BY.items():
        if len(whole.get(part, {})) > 1:
            groups = [(_name(part, name), _beside_length(row)) for name, row in whole[part].items()]
            charts.append(SectionChart(title=title, picture=Markup(interval_chart(groups, f"Accuracy: {title}")), labels=("accuracy", BY_LENGTH_ALONE)))
    bins = [one for one in whole["calibration"]["bins"] if one["total"]]
    points = [(one["confidence"], Interval(label=f"{one['total']:,} pairs", value=one["observed"], low=one["low"], high=one["high"])) for one in bins]
    error = whole["calibration"]["expected_calibration_error"]
    caption = f"ten bins from 50 to 100 %; on the dashed line the scores would be probabilities. Expected calibration error {error:.3f}"
    picture = Markup(calibration_chart(points, "Calibration", "what sigmoid(difference of scores) claims", "observed"))
    charts.append(SectionChart(title="Calibration", picture=picture, caption=caption))
    scores = whole["scores"]
    picture = Markup(histogram_chart(scores["edges"], [scores["rejected"], scores["chosen"]], "Scores", "score"))
    charts.append(SectionChart(title="Scores", picture=picture, caption="how many responses got which score", labels=("rejected", "chosen")))
    return charts


def _beside_length(row: Row) -> list[Interval]:
    baseline = row["length_baseline"]
    length = Interval(label=row["length_direction"], value=baseline, low=baseline, high=baseline)
    return [Interval(label="accuracy", value=row["accuracy"], low=row["low"], high=row["high"]), length]


def _name(part: str, name: str) -> str:
    if part == "by_turn":
        return f"turn {name}"
    return f"{words(name)} better" if part == "by_rating" and name != "better" else words(name)


def _accuracy_cells(row: Row) -> list[str]:
    lead = f"{100 * row['lead']:+.1f} ({100 * row['lead_low']:+.1f} to {100 * row['lead_high']:+.1f})"
    return [f"{row['total']:,}", share(row), f"{row['length_baseline']:.1%} ({row['length_direction']})", lead]


def _limit(limit: Mapping[str, Any] | None) -> str:
    if limit is None:
        return "-"
    return _share(limit["accuracy"], limit["low"], limit["high"]) + (f" / {limit['expected']:.1%}" if "expected" in limit else "")


def share(row: Mapping[str, Any] | None, name: str = "accuracy") -> str:
    """Write a share with its interval, in percent."""
    return "-" if row is None else _share(row[name], row["low"], row["high"])


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.1%} ({100 * low:.1f}-{100 * high:.1f})"
