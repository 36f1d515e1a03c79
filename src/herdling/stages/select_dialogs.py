"""The stage select_dialogs: of many dialogs those that are good and unlike each other, with a table of what the mix has become.

Reads the dialogs of data and samples, and what labels them: a reward model, a judge, a model that makes vectors. Writes `dialogs/train.jsonl`,
`dialogs/validation.jsonl` (as they were), `labels.jsonl` (what was said of each dialog, and why it went) and `ledger.json`. Costs a score, a forward and six
short answers a dialog. Labels are saved in chunks: a stage that was killed goes on after the last whole one, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.comparison_records import write_comparisons
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_to_row, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.data.overuse import OVERUSED, OveruseConfig, beyond_share
from herdling.evals.mix import AFTER, BEFORE, MENDED, OVERUSED_KEPT, OVERUSED_READ, TALLY, mix_table, mix_tally
from herdling.stages.chunks import Chunked, remove_chunks
from herdling.stages.registry import DataInput, ModelInput, RewardInput, StageRun, stage
from herdling.stages.sft import dialogs_of
from herdling.types import Dialog, Message

if TYPE_CHECKING:
    from herdling.generate.loaded import LoadedModel

Row = dict[str, Any]
NOT_GOOD = "neither the reward nor the judge calls it good"
ALIKE = "nearly the same as a better one"
TOO_LONG = "longer than a model's context"


@stage("select_dialogs", output="samples")
class SelectDialogs:
    """Keep the dialogs that are good and unlike each other (Llama 3, section 4.2.3). Good: a reward in the top quartile, or full marks by a judge, for the two
    often disagree and either one recalls more than both. Unlike: inside a cluster from the highest quality x difficulty down, those whose largest cosine to the
    kept ones stays below a threshold.
    """

    data: DataInput | dict[str, DataInput]
    """Where the dialogs are: one artifact, or a table of name -> artifact."""
    reward: RewardInput | None = None
    """A reward model, which scores the last answer of each dialog."""
    top_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the dialogs whose reward counts as good: the top quartile."""
    judge: ModelInput | None = None
    """A chat model that grades accuracy, instruction following and tone from 1 to 3, the difficulty from 1 to 3, and lists the user's intentions."""
    topics: tuple[str, ...] = ()
    """Topics that the judge chooses from, for the table of the mix."""
    embedder: ModelInput | None = None
    """A chat model whose last hidden states, on average, are a dialog's vector. Unset: dialogs that are alike stay."""
    max_cosine: Annotated[float, Field(gt=0, le=1)] | None = None
    """A dialog goes when its cosine to a better one of its cluster is this or more. Not printed, and another for each embedder: it has no default."""
    num_clusters: Annotated[int, Field(ge=1)] | None = None
    """Clusters that dialogs are compared in. Unset: the square root of half of their number."""
    overuse: OveruseConfig = OveruseConfig()
    """Bounds on emoji, exclamation marks and apologies. What has too many of the first two goes unlabelled; apologies are balanced among what is good."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Dialogs that are labelled side by side, and saved together: what a kill can cost. Not volatile: another batch may round a score otherwise."""

    def __post_init__(self) -> None:
        if not (self.reward or self.judge or self.embedder):
            raise SettingsError("select_dialogs: names no reward, judge or embedder, so there is nothing to select by")
        if (self.embedder is None) != (self.max_cosine is None):
            raise SettingsError("select_dialogs: embedder and max_cosine go together: vectors, and from where on two of them are too much alike")
        if self.topics and not self.judge:
            raise SettingsError("select_dialogs.topics: found topics without a judge to choose among them")

    def run(self, run: StageRun) -> None:
        """Label, keep the good ones, drop those that are nearly the same as a better one, balance what is overused, tell what the mix has become."""
        run.check_tokenizers()
        ledger, labeller = Ledger(run.name), self._labeller(run)
        dialogs = self._mended(list(self._dialogs(run, "train")), ledger)
        if not dialogs:
            raise DataError(f"{run.name}: there is no dialog to select from")
        ledger.read(len(dialogs))
        run.progress.begin(len(dialogs), "dialogs")
        labels = list(Chunked(run=run, part="labels", items=dialogs, size=self.batch_size, make=labeller.label))
        mark_good(labels, self.top_share)
        if self.embedder:
            self._drop_alike(run, labels)
        self._balance(run, dialogs, labels, ledger)
        for dialog, label in zip(dialogs, labels, strict=True):
            if label["why"]:
                ledger.drop(label["why"], dialog.id)
        kept = [(dialog, label) for dialog, label in zip(dialogs, labels, strict=True) if not label["why"]]
        ledger.keep(len(kept))
        if not kept:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in ledger.dropped.items())
            raise DataError(f"{run.name}: no dialog of {len(dialogs):,} is left ({reasons}). Raise top_share, max_cosine, or the bounds of overuse")
        write_jsonl(run.folder / "dialogs" / "train.jsonl", (dialog_to_row(dialog) for dialog, _ in kept))
        write_jsonl(run.folder / "dialogs" / "validation.jsonl", map(dialog_to_row, self._dialogs(run, "validation")))
        for split in ("train", "test"):
            write_comparisons(run.folder, split, ())
        write_jsonl(run.folder / "labels.jsonl", ({name: value for name, value in label.items() if name != "vector"} for label in labels))
        chosen = [label for _, label in kept]
        ledger.counts |= {BEFORE: mix_table(labels), AFTER: mix_table(chosen), TALLY: mix_tally(labels, chosen)}
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"dialogs": ledger.kept, "of": len(dialogs), **ledger.dropped}
        remove_chunks(run)

    def _mended(self, dialogs: list[Dialog], ledger: Ledger) -> list[Dialog]:
        mended = [self.overuse.mended(dialog) for dialog in dialogs]
        if self.overuse.excess == "mend":
            ledger.counts[MENDED] = sum(new is not old for new, old in zip(mended, dialogs, strict=True))
        return mended

    def _balance(self, run: StageRun, dialogs: Sequence[Dialog], labels: Sequence[Row], ledger: Ledger) -> None:
        """Mark those of the dialogs that are left whose overused phrase is beyond its share; count the phrase before and after."""
        if self.overuse.max_share is None:
            return
        left = [(label, self.overuse.overuses(dialog)) for dialog, label in zip(dialogs, labels, strict=True) if not label["why"]]
        gone = beyond_share([over for _, over in left], [worth(label) for label, _ in left], self.overuse.max_share, stream_seed(run.seed, run.name))
        for place in gone:
            left[place][0]["why"] = OVERUSED
        ledger.counts[OVERUSED_READ] = sum(map(self.overuse.overuses, dialogs))
        ledger.counts[OVERUSED_KEPT] = sum(over for _, over in left) - len(gone)

    def _dialogs(self, run: StageRun, split: str) -> Iterator[Dialog]:
        named = {"": self.data} if isinstance(self.data, str) else self.data
        for name in sorted(named):
            yield from dialogs_of(run.input(named[name]), split)

    def _labeller(self, run: StageRun) -> _Labeller:
        from herdling.generate.loaded import load
        from herdling.model.precision import prepare_device

        prepare_device()
        models = {name: load(run.input(reference)) for name in ("reward", "judge", "embedder") if (reference := getattr(self, name))}
        return _Labeller(models, self.topics, self.overuse)

    def _drop_alike(self, run: StageRun, labels: Sequence[Row]) -> None:
        """Mark those of the good dialogs that are nearly the same as a better one of their cluster."""
        import numpy as np

        from herdling.data.near_duplicates import clusters, keep_unlike

        good = [label for label in labels if not label["why"]]
        if not good:
            return
        vectors = np.array([label["vector"] for label in good], np.float32)
        member = clusters(vectors, self.num_clusters or max(1, round(sqrt(len(good) / 2))), stream_seed(run.seed, run.name))
        score = np.array(list(map(worth, good)))
        for label, cluster, kept in zip(good, member.tolist(), keep_unlike(vectors, member, score, self.max_cosine or 1.0), strict=True):
            label["cluster"], label["why"] = cluster, "" if kept else ALIKE


class _Labeller:
    """The models that say what a dialog is like."""

    def __init__(self, models: Mapping[str, LoadedModel], topics: tuple[str, ...], overuse: OveruseConfig) -> None:
        self.models, self.topics, self.overuse = models, topics, overuse
        self._count = next(iter(models.values())).chat_format

    def label(self, dialogs: Sequence[Dialog]) -> list[Row]:
        """Return one row a dialog: reward, the judge's word, vector and sizes, each where there is a model for it; sizes alone for one that goes unread."""
        from herdling.evals.quality import NO_TOPIC, judge
        from herdling.generate.embedding import embed_dialogs

        topic = NO_TOPIC if self.topics else "all"
        faults = [self.overuse.fault(dialog) or ("" if self._fits(dialog) else TOO_LONG) for dialog in dialogs]
        rows: list[Row] = [{"id": dialog.id, "topic": topic, "why": fault, **self._sizes(dialog)} for dialog, fault in zip(dialogs, faults, strict=True)]
        read = [(row, dialog) for row, dialog in zip(rows, dialogs, strict=True) if not row["why"]]
        readable = [dialog for _, dialog in read]
        found: list[Row] = [{} for _ in read]
        if "reward" in self.models and read:
            for label, score in zip(found, self.models["reward"].score_batch(readable), strict=True):
                label["reward"] = score
        if "judge" in self.models:
            for label, said in zip(found, judge(self.models["judge"], readable, self.topics), strict=True):
                label |= {**asdict(said), "topic": said.topic if self.topics else "all"}
        if "embedder" in self.models:
            for label, vector in zip(found, embed_dialogs(self.models["embedder"], readable), strict=True):
                label["vector"] = vector.tolist()
        for (row, dialog), label in zip(read, found, strict=True):
            if not isfinite(label.get("reward", 0.0)):
                raise DataError(f"dialog {dialog.id}: its reward is {label['reward']}, which is none. The weights of the reward model are damaged")
            row |= label
        return rows

    def _fits(self, dialog: Dialog) -> bool:
        """Say whether every model can read the dialog, the judge with what it is asked about it."""
        from herdling.evals.quality import questions

        for name, model in self.models.items():
            asked = [model.chat_format.encode(dialog).ids] if name != "judge" else []
            if name == "judge":
                prompts = (Dialog(id="judge", messages=(Message(role="user", content=text),)) for text, _ in questions(dialog, self.topics))
                asked = [model.chat_format.encode(prompt, generate=True).ids for prompt in prompts]
            if max(map(len, asked)) >= model.config.max_position_embeddings:
                return False
        return True

    def _sizes(self, dialog: Dialog) -> Row:
        whole, before = len(self._count.encode(dialog).ids), dialog.messages[:-1]
        context = len(self._count.encode(Dialog(id=dialog.id, messages=before, tools=dialog.tools), generate=True).ids)
        return {"turns": sum(message.role == "user" for message in dialog.messages), "tokens": whole, "context_tokens": context}


def worth(label: Row) -> float:
    """Return quality x difficulty, by which the paper orders dialogs."""
    return float(label["quality_rank"] * label["difficulty_points"])


def mark_good(labels: Sequence[Row], top_share: float) -> None:
    """Add to each label who calls it good and why it goes, its rank in quality (0 to 1) and its difficulty in points.

    Quality is the higher of two: the share of dialogs with no higher reward, and the judge's grades as a share of full marks, for good by either is good.
    Difficulty is the judge's grade plus the number of intentions (the paper names both and does not say how they are joined); without a judge all are alike.
    """
    ordered = sorted(label["reward"] for label in labels if not label["why"] and "reward" in label)
    threshold = ordered[-max(1, round(top_share * len(ordered)))] if ordered else 0.0
    ranks = {score: (index + 1) / len(ordered) for index, score in enumerate(ordered)}
    for label in labels:
        if label["why"]:
            continue
        grade = label.get("quality")
        by_reward = "reward" in label and label["reward"] >= threshold
        by_judge = grade is not None and grade >= 3
        unlabelled = "reward" not in label and "quality" not in label
        label["why"] = "" if by_reward or by_judge or unlabelled else NOT_GOOD
        label["good_by"] = [name for name, good in (("reward", by_reward), ("judge", by_judge)) if good]
        label["quality_rank"] = max(ranks[label["reward"]] if "reward" in label else 0.0, (grade or 0.0) / 3) or (1.0 if unlabelled else 0.0)
        label["difficulty_points"] = float((label.get("difficulty") or 1) + label.get("intentions", 0))
