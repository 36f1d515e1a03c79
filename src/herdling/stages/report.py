"""report: write the report card of a run, `report.html` and `report.md`, from the artifacts of its stages.

Each stage of the papers is judged by what it bought (Llama 2, figure 11: model after model on the same questions); so is each stage here, from what the
artifacts themselves recorded. Trains nothing, asks no model anything, takes under a second.
"""

from __future__ import annotations

from herdling.base.errors import LineageError
from herdling.stages.registry import AnyInput, StageRun, stage


@stage("report", output="report")
class Report:
    """Write the report card of a run: what each stage made, from what, how well, at what cost.

    Makes `report.html` (one self-contained page) and `report.md`.
    """

    of: list[AnyInput]
    """The artifacts to report on, in the order in which they are to be shown."""

    title: str = ""
    """Heading of the report. Empty: the name of the run's folder."""

    description: str = ""
    """A sentence or two below the heading: what this run is about."""

    def run(self, run: StageRun) -> None:
        """Read the artifacts, write the page."""
        from herdling.report.card import read_run
        from herdling.report.page import write_report

        run.progress.begin(len(self.of), "artifacts")
        for reference in self.of:
            if reference not in run.artifacts:
                raise LineageError(f"{run.name}: {reference} is no artifact of herdling (it has no manifest), so there is nothing to report on it")
        artifacts = [run.artifacts[reference] for reference in self.of]
        card = read_run(artifacts, title=self.title or run.folder.parent.name, description=self.description)
        write_report(run.folder, card)
        run.progress.update(len(self.of))
        run.summary["artifacts"] = len(artifacts)
