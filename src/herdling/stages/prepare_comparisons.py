"""The stage prepare_comparisons: other people's preference data as an artifact of comparisons, with a test share held out.

Reads files, folders, globs or `hf:` datasets in the forms of `data.comparison_formats`; writes `comparisons/train.jsonl`, `comparisons/test.jsonl` and
`ledger.json`. Costs about a second for 5,000 pairs; all of them stand in memory.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from herdling.base.artifact import text_fingerprint
from herdling.base.comparison_records import write_comparisons
from herdling.base.errors import DataError, SettingsError, Stopped
from herdling.base.ledger import Ledger
from herdling.data.comparison_formats import import_comparisons
from herdling.data.dialogs import opening
from herdling.data.holdout import DUPLICATE, hold_out
from herdling.data.sources import files_fingerprint
from herdling.preference.rating import MARGINS, Margin
from herdling.stages.registry import StageRun, stage
from herdling.types import Campaign, Comparison

NOT_ASKED_FOR = "more than max_train"


@stage("prepare_comparisons", output="comparisons")
class PrepareComparisons:
    """Bring in comparisons that others collected, such as the open sets of Llama 2, table 6. Comparisons that share their opening question stay together, on
    the side that its digest tells; a row that cannot be used is set aside by name.
    """

    path: str
    """A file, a folder, a glob or `hf:org/name` of rows: TRL, OpenAI, ShareGPT, Alpaca, HH-RLHF, HelpSteer, best-of-K, or our own."""
    form: str | None = None
    """The form of the rows, by its name in `data.comparison_formats`. Unset: told by the fields of each row."""
    campaign: Campaign = "helpfulness"
    """What was judged, for rows that do not say. `safety` asks for safety labels, which only our own rows hold, unless `safety_labels` is false."""
    safety_labels: bool = True
    """False for a set that was judged for safety without saying of each answer whether it is safe, as Anthropic Harmless was: a main set of Llama 2's safety
    reward model (section 3.2.2). It teaches which answer is safer, and the safety loss nothing."""
    margins: Margin | None = None
    """The table that a column `margin` was made with (Llama 2, table 27): turns margins back into ratings. Unset: a margin is kept, and rates nothing."""
    more_columns: tuple[str, ...] = ()
    """Columns beyond those of the form that are expected, and kept as metadata. Any other sets its row aside."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the opening questions whose comparisons are held out; at least one (Llama 2 held out 1,000 comparisons of each batch)."""
    max_train: Annotated[int, Field(ge=1)] | None = None
    """Keep at most this many training comparisons, the same first ones for every number: for a learning curve (Llama 2, figure 6). Unset: all."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of the rows must be set aside; duplicates and what `max_train` leaves do not count."""

    def outside_inputs(self) -> dict[str, str]:
        """Return path -> fingerprint of what lies outside: when it changes after this stage was made, the next run says so instead of going on."""
        return {self.path: files_fingerprint(self.path)}

    def run(self, run: StageRun) -> None:
        """Read, set aside, hold out, write."""
        if not self.safety_labels and self.campaign != "safety":
            raise SettingsError(f"stages.{run.name}.safety_labels: false is for campaign = 'safety'; in a helpfulness campaign nobody is asked for them")
        ledger = Ledger(run.name)
        run.progress.begin(None, "comparisons")
        sides: dict[str, list[Comparison]] = {"train": [], "validation": []}
        margins = None if self.margins is None else MARGINS[self.margins]
        read = import_comparisons(
            self.path, ledger, form=self.form, campaign=self.campaign, margins=margins, more_columns=self.more_columns, safety_labels=self.safety_labels
        )
        # The name before the opening makes this split independent of the one between training and validation dialogs, which goes by the same digest.
        for side, comparison in hold_out(read, group=lambda one: f"comparisons: {opening(one.dialog)}", share=self.test_share, minimum=1):
            if run.stop_requested():
                raise Stopped(f"{run.name}: stopped while reading; the same command starts this stage again")
            sides[side].append(comparison)
            run.progress.update(sum(map(len, sides.values())))
        sides["train"].sort(key=lambda one: text_fingerprint(one.id))  # no order of the file decides which are the first
        for comparison in sides["train"][self.max_train :] if self.max_train is not None else ():
            ledger.drop(NOT_ASKED_FOR, comparison.id)
        train, test = sides["train"][: self.max_train], sides["validation"]
        ledger.keep(len(train) + len(test))
        ledger.check(self.max_dropped_share, harmless=(DUPLICATE, NOT_ASKED_FOR))
        if not train:
            raise DataError(f"{run.name}: no comparison is left to train on; all {len(test):,} have one opening question, or test_share is too large")
        for split, comparisons in (("train", train), ("test", test)):
            write_comparisons(run.folder, split, comparisons)
            ledger.count(f"{split} comparisons", len(comparisons))
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"train": len(train), "test": len(test), "set_aside": ledger.num_dropped - ledger.dropped.get(NOT_ASKED_FOR, 0)}
