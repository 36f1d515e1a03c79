"""The stage retention: how long models keep to an instruction that was given once, side by side, on constraints of training and on new ones.

Reads chat models, the constraints of a ghost_attention artifact and the held-out dialogs of a data artifact; writes `results.json` (shares with intervals) and
`answers.jsonl` (every answer that was looked at). Costs an answer a turn and dialog, and two at the turns that are measured. Interrupted, it goes on with the
model at which it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.decode import Volatile
from herdling.base.errors import DataError, Stopped
from herdling.base.ledger import Ledger
from herdling.base.records import write_jsonl
from herdling.base.seeds import stream, stream_seed
from herdling.data.constraints import Instruction, read_constraints
from herdling.data.long_dialogs import joined, plain_dialogs
from herdling.stages.registry import DataInput, ModelInput, SamplesInput, StageRun, stage
from herdling.stages.sft import dialogs_of

if TYPE_CHECKING:
    from herdling.evals.retention import Case, Judge
    from herdling.generate.loaded import LoadedModel

FINISHED = "finished"  # one file a model, kept until the stage is done


@stage("retention", output="retention")
class Retention:
    """Retention of an instruction over the turns of a dialog (Llama 2, table 30: at turns 2, 4, 6 and 20, with Ghost Attention and without), greedy answers,
    95 % Wilson intervals. Constraints that training never named tell what was learned from what was remembered (Llama 2, section A.3.5).
    """

    models: dict[str, ModelInput]
    """Label -> the chat model: without Ghost Attention and with it."""
    constraints: SamplesInput
    """Which constraints there are, and which of them training never named: the output of ghost_attention."""
    data: DataInput
    """Where the questions are: the output of prepare_data. Only its split validation is used."""
    turns: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 6, 20)
    """The turns that are measured, from 1."""
    num_dialogs: Annotated[int, Field(ge=1)] = 100
    """Dialogs with constraints of training, and as many with new ones."""
    shortened: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the instructions that are cut down to labels."""
    without: str | None = None
    """Regular expression: a dialog in which the user says something that matches is left out, as one with an instruction of its own."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    """An answer that is longer is cut."""
    judge: ModelInput | None = None
    """A chat model that is asked whether an answer keeps to the instruction, where no program can tell. Unset: such constraints are left out."""
    batch_size: Annotated[int, Volatile(), Field(ge=1)] = 64
    """How many dialogs are asked side by side."""

    def run(self, run: StageRun) -> None:
        """Give each dialog an instruction, let every model answer all turns, count who keeps to it."""
        from herdling.evals.retention import by_constraint, model_judge, tally
        from herdling.generate.loaded import load
        from herdling.model.precision import prepare_device

        prepare_device()
        cases = self._cases(run)
        judge = model_judge(load(run.input(self.judge))) if self.judge else None
        finished = run.folder / FINISHED
        finished.mkdir(exist_ok=True)
        results: dict[str, Any] = {"turns": list(self.turns), "models": {}, "by_constraint": {}}
        answers: list[dict[str, Any]] = []
        run.progress.begin(len(self.models) * len(cases), "dialogs")
        for number, (label, reference) in enumerate(self.models.items()):
            record = finished / f"{number}.json"
            if not record.is_file():
                rows = list(self._ask(run, label, load(run.input(reference)), cases, judge, number * len(cases)))
                write_json_atomic(record, {"rows": rows})
            rows = json.loads(record.read_text(encoding="utf-8"))["rows"]
            answers += rows
            results["models"][label] = tally(rows)
            results["by_constraint"][label] = by_constraint(rows)
            for part, ways in results["models"][label].items():
                run.summary |= {f"{label}_{part}_{turn}": round(cell["share"], 4) for turn, cell in ways["once"].items() if cell["total"]}
        write_jsonl(run.folder / "answers.jsonl", answers)
        write_json_atomic(run.folder / "results.json", results)
        remove(finished)

    def _cases(self, run: StageRun) -> list[Case]:
        """Return the dialogs of both parts, each constraint as often as the others."""
        from herdling.evals.retention import Case

        ledger, seed = Ledger(run.name), stream_seed(run.seed, run.name)
        dialogs = plain_dialogs(dialogs_of(run.input(self.data), "validation"), ledger, without=self.without)
        if not dialogs:
            where = run.input(self.data)
            raise DataError(f"{run.name}: {where} has no plain held-out dialog to ask ({ledger.rows_in:,} read). Hold some out, or narrow `without`")
        constraints = list(read_constraints(run.input(self.constraints)))
        checked = [one for one in constraints if one.pattern or self.judge]
        if not checked:
            raise DataError(f"{run.name}: no program can check any of the {len(constraints):,} constraints. Give them patterns, or name a judge")
        cases = []
        for part in (False, True):
            chosen = [one for one in checked if one.held_out == part]
            source = joined(dialogs, (max(self.turns), max(self.turns)), stream_seed(seed, "dialogs", part))
            for slot, (constraint, dialog) in enumerate(islice(zip(cycle(chosen), source, strict=False), self.num_dialogs)):
                short = bool(stream(seed, "shortened", part, slot).random() < self.shortened)
                cases.append(Case(id=f"{part:d}-{slot:04d}", instruction=Instruction(constraints=(constraint,), shortened=short), dialog=dialog))
        return cases

    def _ask(self, run: StageRun, label: str, model: LoadedModel, cases: list[Case], judge: Judge | None, done: int) -> Iterator[dict[str, Any]]:
        """Yield what a model says at the turns that are measured."""
        from herdling.evals.retention import Model, measure

        run.record(tokenizer=model.tokenizer.fingerprint)
        context = model.config.max_position_embeddings
        tested = Model(label=label, generator=model, fits=lambda dialog: model.chat_length(dialog) < context, max_tokens=self.max_tokens)
        for start in range(0, len(cases), self.batch_size):
            if run.stop_requested():
                raise Stopped(f"{run.name}: stopped; models before this one are finished, the same command goes on with it")
            batch = cases[start : start + self.batch_size]
            yield from measure(tested, batch, self.turns, judge)
            run.progress.update(done + start + len(batch), model=label)
