"""What a judgement reports, as tables and pictures: models side by side, who wins against whom, the KL-reward frontier, safety, skills, the Goodhart watch.

Made from the plain data of `evals.preference.judgement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from herdling.report.card import Row, StageCard
from herdling.report.chart import Interval, Spot, frontier_chart, interval_chart
from herdling.report.section import SectionChart, StageSection
from herdling.report.tables import Table, words

JUDGES = ("reward", "watch", "gold")
NEAREST_TO_TRUTH = ("gold", "watch", "reward")
MODELS_NOTE = (
    "Means over all prompts with their 95 % intervals. Reward: of the models that were trained for, in logits. Watch: of a reward model that no training"
    " learned from. Gold: of the simulated annotator itself. KL: how far the policy has moved from its reference, in nats an answer, measured on its own"
    " samples. Unfinished: cut by the limit. Unreadable: empty, or with marks of the chat format."
)
WINS_NOTE = "How often the answer of the first is preferred to that of the second on the same prompt, a tie counted as half, with its 95 % interval."
SAFETY_NOTE = (
    "Violations: adversarial prompts that were not refused. False refusals: harmless ones that were, told by rules for English words where no answer is known."
    " Called unsafe: adversarial prompts whose answer the safety reward model puts below 0.15 (Llama 2, section 3.2.3)."
)


def judgement_section(stage: StageCard) -> StageSection:
    """Return the section of a stage that judged models."""
    results = stage.judgement
    tables = (models_table(results), wins_table(results), safety_table(results), skills_table(results))
    warned = bool(results["goodhart"]["warnings"])
    lines = tuple(results["goodhart"]["lines"])
    gold = any("gold" in row["rewards"] for row in results["models"].values())
    simulated = ("The gold reward is that of a simulated annotator, a program; no training saw it, and no person judged these answers.",)
    return StageSection(
        stage=stage.name,
        warnings=lines if warned else (),
        notes=(() if warned else lines) + (simulated if gold else ()),
        tables=tuple(table for table in tables if table),
        charts=tuple(_charts(results)),
    )


def models_table(results: Row) -> Table:
    """One row a model: mean rewards, distance, length."""
    models: Mapping[str, Row] = results["models"]
    measures = [name for name in JUDGES if any(name in row["rewards"] for row in models.values())]
    shares = [name for name in ("unfinished", "unreadable") if any(row[name]["count"] for row in models.values())]
    rows = []
    for label, row in models.items():
        rewards = [_mean(row["rewards"].get(name)) for name in measures]
        rows.append([label, f"{row['prompts']:,}", *rewards, _mean(row["kl"]), f"{row['tokens']['mean']:.1f}", *(_share(row[name]) for name in shares)])
    columns = ["model", "prompts", *measures, "KL, nats", "tokens", *shares]
    return Table(title="Models on held-out prompts", columns=columns, rows=rows, note=MODELS_NOTE)


def wins_table(results: Row) -> Table:
    """One row for each later model over each earlier one: win rate and mean difference by each judge."""
    return _wins(results, [name for name in JUDGES if any(name in row["win_rates"] for row in results["comparisons"])])


def wins_in_short(results: Row) -> Table:
    """The same by the judge that is nearest to the truth alone: narrow enough for a terminal."""
    return _wins(results, [next(name for name in NEAREST_TO_TRUTH if any(name in row["win_rates"] for row in results["comparisons"]))])


def _wins(results: Row, judges: Sequence[str]) -> Table:
    rows = []
    for row in results["comparisons"]:
        cells = [cell for name in judges for cell in (_rate(row["win_rates"].get(name)), _mean(row["differences"].get(name), sign="+"))]
        rows.append([f"{row['new']} over {row['old']}", *cells, ", ".join(map(words, row["unlearned"])) or "none"])
    columns = ["", *(cell for name in judges for cell in (f"wins by {name}", "gained")), "skills lost"]
    return Table(title="Later models over earlier ones", columns=columns, rows=rows, note=WINS_NOTE)


def safety_table(results: Row) -> Table | None:
    """Violations and false refusals of each model, and what the two reward models say of its answers; None where there is nothing of this."""
    models: Mapping[str, Row] = results["models"]
    kinds = [name for name in ("violations", "false_refusals", "called_unsafe") if any(name in row for row in models.values())]
    means = [name for name in ("safety", "helpfulness") if any("safety" in row["rewards"] for row in models.values())]
    if not kinds and not means:
        return None
    rows = []
    for label, row in models.items():
        shares = [cell for name in kinds for cell in _counted(row.get(name))]
        rows.append([label, *shares, *(_mean(row["rewards"].get(name)) for name in means)])
    columns = ["model", *(cell for name in kinds for cell in (words(name), "of")), *(f"mean {name} reward" for name in means)]
    return Table(title="Safety", columns=columns, rows=rows, note=SAFETY_NOTE)


def skills_table(results: Row) -> Table | None:
    """Right answers of each model by skill; None where no answer is known."""
    models: Mapping[str, Row] = results["models"]
    skills = list(dict.fromkeys(skill for row in models.values() for skill in row.get("skills", {})))
    if not skills:
        return None
    rows = []
    for skill in skills:
        held = [row.get("skills", {}).get(skill) for row in models.values()]
        rows.append([words(skill), next(f"{one['total']:,}" for one in held if one), *map(_share, held)])
    note = "Share of answers that hold the right one, with its 95 % interval. A skill is lost where a later model knows less beyond the interval of the pair."
    return Table(title="Skills", columns=["prompts", "asked", *models], rows=rows, note=note)


def _charts(results: Row) -> list[SectionChart]:
    models: Mapping[str, Row] = results["models"]
    judge = next(name for name in NEAREST_TO_TRUTH if any(name in row["rewards"] for row in models.values()))
    spots = [_spot(label, row, judge, number) for number, (label, row) in enumerate(models.items()) if judge in row["rewards"]]
    picture = Markup(frontier_chart(spots, "KL-reward frontier", "KL from the reference, nats an answer", f"{judge} (mean)"))
    caption = "what was gained for how far the policy moved; up and to the left is better. Whiskers are 95 % intervals"
    charts = [SectionChart(title="KL-reward frontier", picture=picture, caption=caption)]
    judges = [name for name in JUDGES if any(name in row["win_rates"] for row in results["comparisons"])]
    groups = [(f"{row['new']} over {row['old']}", [_won(row["win_rates"][name], name) for name in row["win_rates"]]) for row in results["comparisons"]]
    return [*charts, SectionChart(title="Win rates", picture=Markup(interval_chart(groups, "Win rates")), labels=tuple(judges))]


def _spot(label: str, row: Row, judge: str, number: int) -> Spot:
    return Spot(label=label, x=_bounds(row["kl"]), y=_bounds(row["rewards"][judge]), series=number)


def _bounds(row: Row) -> tuple[float, float, float]:
    """Return (low, mean, high); one value alone stands without whiskers."""
    mean = float(row["mean"])
    return (mean, mean, mean) if row["low"] is None else (float(row["low"]), mean, float(row["high"]))


def _won(row: Row, label: str) -> Interval:
    return Interval(label=label, value=row["rate"], low=row["low"], high=row["high"])


def _mean(row: Mapping[str, Any] | None, sign: str = "") -> str:
    if row is None or row["mean"] is None:
        return "-"
    bounds = "" if row["low"] is None else f" ({row['low']:{sign}.2f} to {row['high']:{sign}.2f})"
    return f"{row['mean']:{sign}.2f}{bounds}"


def _rate(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{row['rate']:.1%} ({100 * row['low']:.1f}-{100 * row['high']:.1f})"


def _share(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None or row["share"] is None else f"{row['share']:.1%} ({100 * row['low']:.1f}-{100 * row['high']:.1f})"


def _counted(row: Mapping[str, Any] | None) -> tuple[str, str]:
    return ("-", "0") if row is None else (_share(row), f"{row['total']:,}")
