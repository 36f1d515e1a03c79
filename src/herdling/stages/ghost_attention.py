"""The stage ghost_attention: dialogs that teach a model to keep to an instruction which was given once, in the first message.

Reads a chat model and the dialogs of a data artifact; writes `dialogs/train.jsonl` and `dialogs/validation.jsonl` (for a stage of kind sft, with a note which
answers are to be learned), `constraints.jsonl` (what may be asked, and what was kept out of training), `ledger.json` and `samples.jsonl`. Costs `num_samples`
answers a dialog, or a turn. A stage that was killed goes on after the last whole chunk, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from herdling.base.comparison_records import write_comparisons
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_from_row, dialog_to_row, write_jsonl
from herdling.base.seeds import stream, stream_seed
from herdling.data.constraints import Constraint, ConstraintKind, Instruction, draw_instruction, make_constraints, parse_list, write_constraints
from herdling.data.long_dialogs import joined, num_turns, plain_dialogs, several_turns
from herdling.stages.chunks import Chunked, remove_chunks
from herdling.stages.collect import CUT
from herdling.stages.registry import DataInput, ModelInput, StageRun, stage
from herdling.stages.rewards import RewardsConfig, load_rewards
from herdling.stages.sft import dialogs_of
from herdling.types import Completion, Dialog, Message, Sampling, Supervised

if TYPE_CHECKING:
    from herdling.generate.gated_reward import RewardModels
    from herdling.generate.loaded import LoadedModel

NUM_SHOWN = 6
BROKEN = "no sample keeps to the instruction"


@stage("ghost_attention", output="samples")
class GhostAttention:
    """Ghost Attention (Llama 2, sections 3.3 and A.3.5): draw an instruction that shall hold throughout, put it before every message of the user, sample the
    answer with the latest model; then keep the instruction in the first message only, and learn nothing but the last answer, with which the earlier ones,
    which never saw the instruction, do not agree.
    """

    model: ModelInput
    """The latest chat model: it samples."""
    data: DataInput
    """Where the dialogs are: the output of prepare_data. Training dialogs come of its split train, held-out ones of its split validation."""
    constraints: dict[str, ConstraintKind]
    """Name of a kind -> its values and wordings: hobbies, languages and public figures in the paper."""
    max_prompts: Annotated[int, Field(ge=1)]
    """How many dialogs to sample for, of the split train."""
    max_held_out: Annotated[int, Field(ge=0)] = 64
    """How many to sample for of the split validation."""
    most_combined: Annotated[int, Field(ge=1)] = 3
    """An instruction combines one to this many constraints, each of another kind (section A.3.5: "we combine"; how many is not printed)."""
    shortened: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the instructions that are cut down to labels, such as `Figure: Napoleon.` (section 3.3: half of the time)."""
    answers: Literal["last", "all"] = "last"
    """Which answers are sampled. `last`: the earlier ones stay as they are in the data (section 3.3). `all`: each in turn, so that what stands before the last
    answer keeps to the instruction, as it will in use; a dialog ends before its first answer that does not, if two turns are left."""
    learned: Literal["last", "all"] = "last"
    """Which answers are learned. `last`: the earlier ones do not agree with it (section 3.3). `all`: every one, where every one was sampled (`answers`):
    as many lessons as turns, for the price of the same tokens."""
    turns: tuple[int, int] | None = None
    """Join dialogs until they have a number of turns drawn from here, both ends included. Unset: those that have several turns, as they are."""
    without: str | None = None
    """Regular expression: a dialog in which the user says something that matches is left out, as one with an instruction of its own."""
    num_samples: Annotated[int, Field(ge=1)] = 1
    """Answers sampled for each prompt. The best that keeps to the instruction is taken: by the reward, or the first."""
    rewards: RewardsConfig | None = None
    """Reward models to choose among the samples by, as in rejection sampling (section 3.2.3)."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Of the samples. Not printed for this method; rejection sampling tunes it."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """An answer that is not finished by then is no target."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Dialogs that are sampled side by side, and saved together: what a kill can cost. Not volatile: another batch may round a logit otherwise."""

    def __post_init__(self) -> None:
        if self.turns and not 1 <= self.turns[0] <= self.turns[1]:
            raise SettingsError(f"ghost_attention.turns: found {list(self.turns)}, expected two whole numbers from 1 on, the smaller first")
        if self.learned == "all" and self.answers == "last":
            raise SettingsError('ghost_attention.learned: found "all", but answers that were not sampled never saw the instruction. Set answers = "all" too')

    def run(self, run: StageRun) -> None:
        """Name the constraints, sample with the instruction in every message, keep it in the first."""
        run.check_tokenizers()
        sampler = self._sampler(run)
        ledger = Ledger(run.name)
        constraints = make_constraints(self.constraints, sampler.listed(self.constraints))
        trained = [one for one in constraints if not one.held_out]
        if not trained:
            raise SettingsError(f"stages.{run.name}.constraints: every value is held out, so none is left to train on")
        run.progress.begin(self.max_prompts + self.max_held_out, "dialogs")
        made: dict[str, list[Dialog]] = {}
        for split, most, before in (("train", self.max_prompts, 0), ("validation", self.max_held_out, self.max_prompts)):
            tasks = list(self._tasks(run, split, most, trained, ledger))
            chunked = Chunked(run=run, part=split, items=tasks, size=self.batch_size, make=sampler.rows, done_before=before)
            made[split] = [dialog for row in chunked if (dialog := _counted(row, ledger))]
        if not made["train"]:
            raise DataError(f"{run.name}: no dialog is left to train on: {', '.join(f'{why}: {count:,}' for why, count in ledger.dropped.items())}")
        for split, dialogs in made.items():
            write_jsonl(run.folder / "dialogs" / f"{split}.jsonl", map(dialog_to_row, dialogs))
        for split in ("train", "test"):
            write_comparisons(run.folder, split, ())
        write_constraints(run.folder, constraints)
        write_jsonl(run.folder / "samples.jsonl", map(_shown, [*made["validation"], *made["train"]][:NUM_SHOWN]))
        ledger.keep(sum(map(len, made.values())))
        ledger.write(run.folder / "ledger.json")
        run.summary |= {"dialogs": len(made["train"]), "held_out": len(made["validation"]), "constraints": len(trained)}
        run.summary |= {"new_constraints": len(constraints) - len(trained), "set_aside": ledger.dropped.get(BROKEN, 0)}
        remove_chunks(run)

    def _sampler(self, run: StageRun) -> _Sampler:
        """Load the latest model, and the reward models if there are any."""
        from herdling.generate.loaded import load
        from herdling.model.precision import prepare_device

        prepare_device()
        model = load(run.input(self.model))
        run.record(tokenizer=model.tokenizer.fingerprint, chat_template=model.chat_format.fingerprint)
        rewards = load_rewards(self.rewards, run) if self.rewards else None
        if rewards:
            rewards.check(model)
        return _Sampler(settings=self, model=model, rewards=rewards)

    def _tasks(self, run: StageRun, split: str, most: int, trained: Sequence[Constraint], ledger: Ledger) -> Iterator[_Task]:
        """Yield the dialogs to sample for, each with its instruction; all chance is named by the place of the dialog, so that a chunk can be made again."""
        seed = stream_seed(run.seed, run.name, split)
        found = Ledger(split)
        dialogs = plain_dialogs(dialogs_of(run.input(self.data), split), found, without=self.without) if most else []
        for reason, count in found.dropped.items():
            ledger.count(f"dialogs passed over: {reason}", count)
        if split == "train" and not dialogs:
            raise DataError(f"{run.name}: {run.input(self.data)} has no plain dialog to put an instruction before. Give it dialogs, or narrow `without`")
        source = several_turns(dialogs) if self.turns is None else joined(dialogs, self.turns, seed) if dialogs else ()
        for slot, dialog in enumerate(islice(source, most)):
            instruction = draw_instruction(trained, stream(seed, "instruction", slot), most=self.most_combined, shortened=self.shortened)
            yield _Task(name=f"{run.name}/{split}/{slot:06d}", dialog=dialog, instruction=instruction, seed=stream_seed(seed, "answers", slot))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A dialog of plain turns, and the instruction that shall hold through it."""

    name: str
    dialog: Dialog
    instruction: Instruction
    seed: int

    @property
    def turns(self) -> int:
        return num_turns(self.dialog)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sampler:
    """The latest model, ready to answer."""

    settings: GhostAttention
    model: LoadedModel
    rewards: RewardModels | None

    def listed(self, kinds: dict[str, ConstraintKind]) -> dict[str, list[str]]:
        """Ask the model for values, where a kind has a question for them: greedy, so that a second run gets the same."""
        asked = {name: kind.ask for name, kind in kinds.items() if kind.ask}
        dialogs = [Dialog(id=name, messages=(Message(role="user", content=text),)) for name, text in asked.items()]
        answers = self.model.chat_batch(dialogs, Sampling(temperature=0.0, max_tokens=self.settings.max_tokens)) if dialogs else []
        return {name: parse_list(answer.message.content) for name, answer in zip(asked, answers, strict=True)}

    def rows(self, tasks: Sequence[_Task]) -> list[dict[str, Any]]:
        """Sample the answers of some dialogs, turn by turn, and return what came of each as plain data."""
        alive = {task.name: task.dialog for task in tasks}
        going, dropped, cut = set(alive), dict[str, tuple[str, str]](), set[str]()
        rounds = [[(task, task.turns) for task in tasks]]
        if self.settings.answers == "all":
            rounds = [[(task, turn) for task in tasks if turn <= task.turns] for turn in range(1, max(task.turns for task in tasks) + 1)]
        for asked in rounds:
            here = [(task, turn) for task, turn in asked if task.name in going]
            prompts = [every_turn(alive[task.name], task.instruction, turn) for task, turn in here]
            for (task, turn), answer in zip(here, self._answers(here, prompts), strict=True):
                if not isinstance(answer, str):
                    alive[task.name] = with_answer(alive[task.name], turn, answer)
                    continue
                going.remove(task.name)
                if self.settings.answers == "all" and turn > 2:
                    alive[task.name] = replace(alive[task.name], messages=alive[task.name].messages[: 2 * turn - 2])
                    cut.add(task.name)
                else:
                    dropped[task.name] = answer, f"{task.name}: {task.instruction.text} (turn {turn})"
        return [
            {
                "values": [one.value for one in task.instruction.constraints],
                "dropped": dropped.get(task.name),
                "cut": task.name in cut,
                "dialog": None if task.name in dropped else self._row(task, alive[task.name]),
            }
            for task in tasks
        ]

    def _row(self, task: _Task, dialog: Dialog) -> dict[str, Any]:
        return dialog_to_row(first_turn_only(replace(dialog, id=task.name), task.instruction, self.settings.learned))

    def _answers(self, asked: Sequence[tuple[_Task, int]], prompts: Sequence[Dialog]) -> list[Message | str]:
        """Return for each prompt the best answer that keeps to the instruction, or why there is none."""
        context, settings = self.model.config.max_position_embeddings, self.settings
        fits = [self.model.chat_length(prompt) < context for prompt in prompts]
        repeated: list[Dialog] = []
        samplings: list[Sampling] = []
        for (task, turn), prompt, fit in zip(asked, prompts, fits, strict=True):
            for number in range(settings.num_samples if fit else 0):
                seed = stream_seed(task.seed, turn, number)
                repeated.append(prompt)
                samplings.append(Sampling(temperature=settings.temperature, top_p=1.0, max_tokens=settings.max_tokens, seed=seed))
        said = iter(self.model.chat_batch(repeated, samplings) if repeated else [])
        return [
            self._best(prompt, task.instruction, list(islice(said, settings.num_samples))) if fit else "prompt longer than the context"
            for (task, _), prompt, fit in zip(asked, prompts, fits, strict=True)
        ]

    def _best(self, prompt: Dialog, instruction: Instruction, samples: Sequence[Completion]) -> Message | str:
        whole = [one for one in samples if one.stop_reason not in CUT and one.message.content.strip() and not one.message.tool_calls]
        obedient = list({one.message.content: one.message for one in whole if instruction.obeyed(one.message.content)}.values())
        if not obedient:
            return BROKEN if whole else CUT.get(samples[0].stop_reason, "an empty answer")
        if self.rewards is None or len(obedient) == 1:
            return obedient[0]
        rewards = self.rewards.score([replace(prompt, messages=(*prompt.messages, message)) for message in obedient])
        return max(zip(obedient, rewards, strict=True), key=lambda pair: pair[1].combined)[0]


def every_turn(dialog: Dialog, instruction: Instruction, turn: int) -> Dialog:
    """Return a dialog of plain turns up to its `turn`-th question, the instruction before every message of the user: what is sampled from."""
    messages = dialog.messages[: 2 * turn - 1]
    return replace(dialog, messages=tuple(_told(message, instruction) if message.role == "user" else message for message in messages))


def first_turn_only(dialog: Dialog, instruction: Instruction, learned: Supervised = "last") -> Dialog:
    """Return a dialog with the instruction in its first message, its last answer alone (or every one) to be learned: what is trained on."""
    return replace(dialog, messages=(_told(dialog.messages[0], instruction), *dialog.messages[1:]), supervised=learned)


def with_answer(dialog: Dialog, turn: int, answer: Message) -> Dialog:
    """Return a dialog of plain turns with this answer to its `turn`-th question."""
    place = 2 * turn - 1
    return replace(dialog, messages=(*dialog.messages[:place], answer, *dialog.messages[place + 1 :]))


def _told(message: Message, instruction: Instruction) -> Message:
    return replace(message, content=instruction.before(message.content))


def _counted(row: dict[str, Any], ledger: Ledger) -> Dialog | None:
    """Count what came of one dialog, and return it if it is one to learn from."""
    ledger.read()
    by_value: dict[str, dict[str, int]] = ledger.counts.setdefault("by constraint", {})
    for value in row["values"]:
        counts = by_value.setdefault(value, {"drawn": 0, "kept": 0})
        counts["drawn"] += 1
        counts["kept"] += row["dialog"] is not None
    if row["dialog"] is None:
        ledger.drop(*row["dropped"])
        return None
    ledger.count("dialogs cut before an answer that could not be taken", row["cut"])
    return dialog_from_row(row["dialog"], "chunk")


def _shown(dialog: Dialog) -> dict[str, str]:
    """Return a dialog as a sample of the report: all that comes before the last answer, and that answer."""
    before = "\n".join(f"{message.role}: {message.content}" for message in dialog.messages[:-1])
    return {"prompt": before, "completion": dialog.messages[-1].content}
