"""The stage collect: comparisons of two models' answers, judged by a SIMULATED annotator. For tests and first runs; people judge with `herdling annotate`.

Reads chat models and the dialogs of a data artifact; writes `comparisons/train.jsonl`, `comparisons/test.jsonl` and `ledger.json`. `starter/scripts.py` says
what is asked, `starter/taste.py` how it is judged. Costs two answers a comparison, more where they are equal. A stage that was killed goes on after the last
whole chunk of dialogs, to the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.comparison_records import comparison_from_row, comparison_to_row, fault, write_comparisons
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream, stream_seed
from herdling.stages.chunks import Chunked, remove_chunks
from herdling.stages.registry import DataInput, ModelInput, StageRun, stage
from herdling.stages.sft import dialogs_of
from herdling.starter.taste import AnnotatorConfig, bayes_limit, compare
from herdling.types import Campaign, Comparison, Completion, Dialog, Question, Sampling

if TYPE_CHECKING:
    from herdling.generate.loaded import LoadedModel
    from herdling.starter.scripts import Script

MAX_ROUNDS = 8
"""The same dialogs are asked no more often than this; after that they are too few, or the models too much alike."""
CUT = {"context_full": "cut by the context limit", "max_tokens": "cut by max_tokens"}


@stage("collect", output="comparisons")
class Collect:
    """Collect preferences as Llama 2, section 3.2.1: two answers from two different model variants at two different temperatures, on shuffled sides, a forced
    choice with one of four levels, safety labels in a safety campaign, and on with the chosen answer in a dialog of several turns. The annotator is simulated.
    """

    models: dict[str, ModelInput]
    """Name -> a chat model: two or more variants, of which two answer each prompt."""
    data: DataInput
    """Where the dialogs are whose questions are asked: the output of prepare_data. Only its training side is used."""
    num_comparisons: Annotated[int, Field(ge=2)]
    """How many to keep, over both splits."""
    campaign: Campaign = "helpfulness"
    """What is judged: helpfulness, or safety, which asks adversarial prompts and labels each answer safe or not."""
    adversarial_share: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Share of a safety campaign's dialogs that begin with an adversarial prompt; the others are harmless."""
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3)
    """Two different ones of these are drawn for the two answers."""
    max_tokens: Annotated[int, Field(ge=1)] = 48
    """An answer that is not finished by then is set aside: nobody compares halves."""
    tries: Annotated[int, Field(ge=1)] = 4
    """How often two answers are sampled until they differ."""
    multi_turn: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Chance that a dialog with further questions goes on behind the chosen answer, at each turn."""
    edit: bool = False
    """Add an edit of the chosen answer where it can be bettered (Llama 3, section 4.2.1: edited > chosen > rejected)."""
    annotator: AnnotatorConfig = AnnotatorConfig()
    """The noise and the scale of the simulated annotator."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the opening prompts whose comparisons are held out (Llama 2 held out 1,000 of each batch)."""
    round: str = "1"
    """The name of the batch."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Dialogs that are asked side by side, and saved together: what a kill can cost. Not volatile: another batch may round a logit otherwise."""

    def run(self, run: StageRun) -> None:
        """Ask, judge, hold out, count."""
        from herdling.starter.scripts import scripts

        run.check_tokenizers()
        asking = self._asking(run)
        dialogs = list(dialogs_of(run.input(self.data), "train"))
        dealt = scripts(dialogs, self.campaign, adversarial_share=self.adversarial_share, seed=stream_seed(run.seed, run.name))
        asked = list(enumerate(islice(dealt, MAX_ROUNDS * len(dialogs))))
        ledger = Ledger(run.name)
        kept: list[Comparison] = []
        run.progress.begin(self.num_comparisons, "comparisons")
        for row in Chunked(run=run, part="asked", items=asked, size=self.batch_size, make=asking.chunk, shows_progress=False):
            kept += _kept_of(row, ledger)
            run.progress.update(min(len(kept), self.num_comparisons))
            if len(kept) >= self.num_comparisons:
                break
        else:
            aside = ", ".join(f"{reason}: {count:,}" for reason, count in ledger.dropped.items())
            raise DataError(
                f"{run.name}: {len(kept):,} comparisons came of {len(dialogs):,} dialogs asked {MAX_ROUNDS} times, expected {self.num_comparisons:,}."
                f" Set aside: {aside}. Ask for fewer, or take variants and temperatures that differ more"
            )
        for surplus in kept[self.num_comparisons :]:
            ledger.drop("more than num_comparisons", surplus.id)
        self._write(run, kept[: self.num_comparisons], ledger)
        remove_chunks(run)

    def _asking(self, run: StageRun) -> _Asking:
        """Load the variants. Raises `SettingsError` when there are not two different models and temperatures to draw from."""
        from herdling.generate.fingerprint import model_fingerprint
        from herdling.generate.loaded import load
        from herdling.model.precision import prepare_device

        prints = {name: model_fingerprint(run.input(reference)) for name, reference in self.models.items()}
        if len(set(prints.values())) < 2 or len(set(prints.values())) < len(prints):
            found = ", ".join(f"{name} ({value[:12]})" for name, value in prints.items())
            raise SettingsError(f"stages.{run.name}.models: found {found}; two answers come from two different models, so name two or more, each once")
        if len(set(self.temperatures)) < max(2, len(self.temperatures)) or min(self.temperatures) < 0:
            raise SettingsError(f"stages.{run.name}.temperatures: found {list(self.temperatures)}, expected two or more different ones, none below 0")
        prepare_device()
        models = {name: load(run.input(reference)) for name, reference in self.models.items()}
        for model in models.values():
            run.record(tokenizer=model.tokenizer.fingerprint, chat_template=model.chat_format.fingerprint)
        return _Asking(settings=self, models=models, fingerprints=prints, seed=stream_seed(run.seed, run.name))

    def _write(self, run: StageRun, kept: Sequence[Comparison], ledger: Ledger) -> None:
        """Write both splits, the ledger and the summary."""
        from herdling.data.dialogs import opening
        from herdling.data.holdout import hold_out

        sides: dict[str, list[Comparison]] = {"train": [], "validation": []}
        # The name before the opening makes this split independent of the one between training and validation dialogs, which goes by the same digest.
        for side, comparison in hold_out(kept, group=lambda one: f"comparisons: {opening(one.dialog)}", share=self.test_share, minimum=1):
            sides[side].append(comparison)
        for split, held in (("train", sides["train"]), ("test", sides["validation"])):
            held.sort(key=lambda one: one.id)
            write_comparisons(run.folder, split, held)
        ledger.keep(len(kept))
        ledger.counts |= measures(kept, self.annotator)
        limits = {level: round(limit.accuracy, 4) for level, limit in bayes_limit(sides["validation"], self.annotator).items()}
        ledger.counts["Bayes limit of the test split (simulated annotator)"] = limits
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"comparisons": len(kept), "train": len(sides["train"]), "test": len(sides["validation"]), "simulated": True}
        run.summary |= {"bayes_limit_test": limits.get("all"), "set_aside": ledger.num_dropped}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One prompt of one dialog: the place in its script, and the dialog with the answers that were chosen in it."""

    slot: int
    script: Script
    place: int
    dialog: Dialog
    names: tuple[str, str]
    temperatures: tuple[float, float]
    """Of the left and the right answer, as the sides were shuffled."""
    seed: int

    @property
    def question(self) -> Question:
        """The question as it stands in this dialog."""
        return replace(self.script[self.place], id=f"{self.slot:06d}/{self.place + 1}", dialog=self.dialog)


@dataclass(slots=True, kw_only=True)
class _Chunk:
    """What came of some dialogs, in the order of asking."""

    kept: list[Comparison] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def to_row(self) -> dict[str, Any]:
        return {"kept": [comparison_to_row(one) for one in self.kept], "dropped": self.dropped, "counts": dict(self.counts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """The variants, ready to answer. All chance is named by the place of the dialog in the campaign, so a chunk is the same whenever it is made."""

    settings: Collect
    models: Mapping[str, LoadedModel]
    fingerprints: Mapping[str, str]
    seed: int

    def chunk(self, dealt: Sequence[tuple[int, Script]]) -> list[dict[str, Any]]:
        """Ask the dialogs of one chunk, turn by turn, and return what came of them as one row of plain data. Each has its place in the campaign beside it."""
        made = _Chunk()
        turns = [self._turn(slot, script, 0, script[0].dialog) for slot, script in dealt]
        while turns:
            fitting = [turn for turn in turns if self._fits(turn, made)]
            answers = self._answers(fitting, made)
            turns = [later for turn, pair in zip(fitting, answers, strict=True) if (later := self._after(turn, self._judge(turn, pair, made)))]
        return [made.to_row()]

    def _turn(self, slot: int, script: Script, place: int, dialog: Dialog) -> _Turn:
        """Draw which two variants answer at which two temperatures, and who stands left."""
        seed = stream_seed(self.seed, "turn", slot, place)
        rng = stream(seed, "sides")
        names, temperatures = list(self.models), self.settings.temperatures
        left, right = rng.permutation(len(names))[:2].tolist()
        warm, cold = rng.permutation(len(temperatures))[:2].tolist()
        pair = (names[left], names[right])
        return _Turn(slot=slot, script=script, place=place, dialog=dialog, names=pair, temperatures=(temperatures[warm], temperatures[cold]), seed=seed)

    def _fits(self, turn: _Turn, made: _Chunk) -> bool:
        lengths = [(self.models[name].chat_length(turn.dialog), self.models[name].config.max_position_embeddings) for name in turn.names]
        if all(length < context for length, context in lengths):
            return True
        made.dropped.append(("prompt longer than the context", f"{turn.question.id}: {max(lengths)[0]:,} tokens"))
        return False

    def _answers(self, turns: Sequence[_Turn], made: _Chunk) -> list[tuple[Completion, Completion]]:
        """Return both answers to each prompt, sampled anew while they are equal and tries are left."""
        pairs: dict[int, list[Completion]] = {}
        waiting = list(range(len(turns)))
        for attempt in range(self.settings.tries):
            for side in (0, 1):
                for name, model in self.models.items():
                    asked = [index for index in waiting if turns[index].names[side] == name]
                    samplings = [self._sampling(turns[index], side, attempt) for index in asked]
                    said = model.chat_batch([turns[index].dialog for index in asked], samplings) if asked else []
                    for index, completion in zip(asked, said, strict=True):
                        # Tokens would be half of the file, and nobody reads them: another model's ids would mean other texts.
                        told = replace(completion, model=name, model_fingerprint=self.fingerprints[name], token_ids=(), token_logprobs=())
                        pairs[index] = [*pairs[index][:side], told] if side else [told]
            waiting = [index for index in waiting if _said(pairs[index][0]) == _said(pairs[index][1])]
            made.counts["pairs sampled again because they were equal"] += len(waiting) if attempt + 1 < self.settings.tries else 0
            if not waiting:
                break
        return [(pairs[index][0], pairs[index][1]) for index in range(len(turns))]

    def _sampling(self, turn: _Turn, side: int, attempt: int) -> Sampling:
        seed = stream_seed(turn.seed, "answer", side, attempt)
        return Sampling(temperature=turn.temperatures[side], top_p=1.0, max_tokens=self.settings.max_tokens, seed=seed)

    def _judge(self, turn: _Turn, pair: tuple[Completion, Completion], made: _Chunk) -> Comparison | None:
        """Judge one pair. Returns the comparison, or None when it had to be set aside."""
        settings = self.settings
        cut = next((CUT[one.stop_reason] for one in pair if one.stop_reason in CUT), None)
        if cut:
            made.dropped.append((cut, f"{turn.question.id}: {[one.message.content for one in pair]}"))
            return None
        judged = compare(turn.question, *pair, campaign=settings.campaign, annotator=settings.annotator, seed=turn.seed, edit=settings.edit)
        comparison = replace(judged, round=settings.round)
        found = fault(comparison)
        if found:
            made.dropped.append((found.split(":")[0], f"{turn.question.id}: {[one.message.content for one in pair]}"))
            return None
        made.kept.append(comparison)
        return comparison

    def _after(self, turn: _Turn, comparison: Comparison | None) -> _Turn | None:
        """Return the next turn behind the chosen answer, if the dialog goes on."""
        place = turn.place + 1
        if comparison is None or place == len(turn.script) or stream(turn.seed, "goes on").random() >= self.settings.multi_turn:
            return None
        chosen = comparison.responses[comparison.judged[0]].message
        if chosen.tool_calls:  # a call waits for its result, which nobody here can give
            return None
        asked = turn.script[place].dialog.messages[-1]
        return self._turn(turn.slot, turn.script, place, replace(turn.dialog, messages=(*turn.dialog.messages, chosen, asked)))


def measures(comparisons: Sequence[Comparison], annotator: AnnotatorConfig) -> dict[str, Any]:
    """Return what a campaign is like: how its ratings, turns, gold gaps and safety labels are spread, as counts."""
    gaps = [abs(one.metadata["gold"][one.judged[0]] - one.metadata["gold"][one.judged[-1]]) for one in comparisons]
    edges = (0.0, *annotator.thresholds)
    spread = Counter(f"from {max(edge for edge in edges if edge <= gap):g}" for gap in gaps)
    found: dict[str, Any] = {
        "ratings": dict(sorted(Counter(str(one.rating) for one in comparisons).items())),
        "turns": {str(turn): count for turn, count in sorted(Counter(one.turn for one in comparisons).items())},
        "gold gaps, no noise": {"none": sum(gap == 0 for gap in gaps), **dict(sorted(spread.items()))},
        "edits": sum(one.edited is not None for one in comparisons),
    }
    labels = [(one.safe[one.judged[0]], one.safe[one.judged[-1]]) for one in comparisons if one.safe is not None]
    words = {(True, False): "chosen safe, other not", (True, True): "both safe", (False, False): "both unsafe"}
    return found | ({"safety labels": {word: labels.count(label) for label, word in words.items()}} if labels else {})


def _said(completion: Completion) -> tuple[Any, ...]:
    return completion.message.content.strip(), completion.message.tool_calls


def _kept_of(row: Mapping[str, Any], ledger: Ledger) -> list[Comparison]:
    """Return what was kept of one chunk, and count what became of it."""
    ledger.read(len(row["kept"]) + len(row["dropped"]))
    for reason, example in row["dropped"]:
        ledger.drop(reason, example)
    for name, amount in row["counts"].items():
        ledger.count(name, amount)
    return [comparison_from_row(one, f"{ledger.stage}: comparison {one.get('id', '?')}") for one in row["kept"]]
