"""The stage sft: a base model learns to answer, from dialogs, with the loss on answers only.

Reads a model folder and the dialogs of one artifact or more; writes a model folder with its chat template, `ledger.json`, `metrics.jsonl`, `samples.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from herdling.base.artifact import remove
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_from_row, read_jsonl, write_jsonl
from herdling.base.seeds import stream_seed
from herdling.stages.registry import DataInput, ModelInput, StageRun, stage
from herdling.train.config import LoopConfig, OptimizerConfig, ScheduleConfig
from herdling.types import Dialog, Sampling

if TYPE_CHECKING:
    from herdling.data.dialog_rows import DialogRows
    from herdling.model.precision import Device
    from herdling.model.transformer import Llama
    from herdling.tokenizer.chat_format import ChatFormat
    from herdling.train.schedule import Schedule

NUM_SAMPLES = 4
PAPER_LENGTH = 4096


@stage("sft", output="model")
class Sft:
    """Fine-tune on dialogs (Llama 2, section 3.1): whole dialogs packed into rows, each apart from its neighbours; loss on answers and on the token that ends
    them, none on prompts; two epochs, AdamW with weight decay 0.1, cosine from a small learning rate, 64 rows a step.
    """

    model: ModelInput
    """The model to begin with: the output of pretrain, or a model folder."""
    data: DataInput | dict[str, DataInput]
    """Where the dialogs are: the output of prepare_data, or a table of name -> artifact, whose dialogs are trained together."""
    chat_format: Literal["llama2", "llama3", "llama3.1"] | None = None
    """How a dialog is written as tokens. Unset: by the tokenizer's family, `llama2` or `llama3.1`."""
    epochs: Annotated[int, Field(ge=1)] = 2
    """How often each dialog is seen (Llama 2, section 3.1)."""
    sequence_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens in a row. Unset: the model's context, but at most the paper's 4,096 (Llama 2, section 3.1)."""
    batch_rows: Annotated[int, Field(ge=1)] | None = None
    """Rows in a step. Unset: 64 for a size of the papers (Llama 2, section 3.1), fewer for a small model, so that a small set still makes enough steps."""
    too_long: Literal["drop", "truncate"] = "drop"
    """What becomes of a dialog that is longer than a row."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of the dialogs cannot be used."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW. Peak learning rate when unset: 2e-5 for a size of the papers (Llama 2, section 3.1), the dial's for a small model."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Cosine in the paper; warm-up and floor are not printed there, so they are those of pre-training."""
    loop: LoopConfig = LoopConfig()
    """How the loop runs."""

    def run(self, run: StageRun) -> None:
        """Encode, pack, train, save."""
        from torch import float32

        from herdling.checkpoint.huggingface import load_model, save_model
        from herdling.data.dialog_rows import DialogRows, encode_dialogs
        from herdling.tokenizer import load_tokenizer
        from herdling.tokenizer.chat_format import chat_format
        from herdling.train.schedule import plan_schedule
        from herdling.train.size import check_context, sft_size
        from herdling.train.start import settle_device

        where, seed = f"stages.{run.name}", stream_seed(run.seed, run.name)
        tokenizer = load_tokenizer(run.input(self.model))
        template = chat_format(tokenizer, self.chat_format)
        run.record(tokenizer=tokenizer.fingerprint, chat_template=template.fingerprint)

        device = settle_device(self.loop, run.folder)
        model = load_model(run.input(self.model), dtype=float32)
        size = sft_size(model.config)
        length = self.sequence_length or min(model.config.max_position_embeddings, PAPER_LENGTH)
        check_context(model.config, length, where)

        ledger = Ledger(run.name)
        encoded = encode_dialogs(self._dialogs(run, "train"), template, ledger, sequence_length=length, too_long=self.too_long)
        ledger.check(self.max_dropped_share)
        rows = DialogRows(encoded, sequence_length=length, epochs=self.epochs, seed=seed, pad_id=tokenizer.pad_id)
        batch = (self.batch_rows or size.rows) * length
        steps = -(-rows.num_rows * length // batch)
        schedule = plan_schedule(self.schedule, num_tokens=steps * batch, batch=str(batch), sequence_length=length, where=where)

        trained = self._train(run, model, rows, schedule, self.optimizer.lr or size.lr, device, template)
        run.summary |= {"dialogs": ledger.kept, "epochs": self.epochs, "tokens_supervised": ledger.counts["tokens supervised"], **trained}
        save_model(run.folder, model, tokenizer, template)

        ledger.counts["rows filled"] = round(rows.fill, 4)
        ledger.write(run.folder / "ledger.json")
        self._write_samples(run)
        remove(run.folder / "checkpoints")

    def _train(self, run: StageRun, model: Llama, rows: DialogRows, schedule: Schedule, lr: float, device: Device, template: ChatFormat) -> dict[str, Any]:
        """Predict the next token, where the rows' loss mask has the answers; measure bits per byte of held-out answers on the way."""
        from herdling.data.dialog_rows import DialogRows, encode_dialogs
        from herdling.train.feed import ScheduledFeed
        from herdling.train.forward import scorer
        from herdling.train.losses import NextToken
        from herdling.train.start import train_llama
        from herdling.train.validation import rows_bits_per_byte

        held_out = encode_dialogs(self._dialogs(run, "validation"), template, Ledger("validation"), sequence_length=rows.sequence_length)
        tokenizer = template.tokenizer
        num_bytes = len(tokenizer.decode_bytes(held_out.ids[held_out.trained].tolist()))

        def validate() -> dict[str, float]:
            answers = DialogRows(held_out, sequence_length=rows.sequence_length, epochs=1, seed=0, pad_id=tokenizer.pad_id)
            return {"answers": rows_bits_per_byte(scorer(model), answers, num_bytes, device.device)}

        return train_llama(
            model,
            NextToken(),
            ScheduledFeed(schedule, lambda _: rows),
            schedule=schedule,
            optimizer=self.optimizer,
            lr=lr,
            loop=self.loop,
            device=device,
            folder=run.folder,
            validate=validate if len(held_out.ends) else None,
            progress=run.progress,
            stop_requested=run.stop_requested,
        )

    def _write_samples(self, run: StageRun) -> None:
        """Write how the saved model answers held-out questions."""
        from herdling.generate.loaded import load

        questions = [first_question(dialog) for dialog in islice(self._dialogs(run, "validation"), NUM_SAMPLES)]
        answered = load(run.folder).chat_batch(questions, Sampling(temperature=0.0, max_tokens=128))
        samples = ({"prompt": one.messages[-1].content, "completion": other.message.content} for one, other in zip(questions, answered, strict=True))
        write_jsonl(run.folder / "samples.jsonl", samples)

    def _dialogs(self, run: StageRun, split: str) -> Iterator[Dialog]:
        """Yield the dialogs of one split of all artifacts, by name: tables that differ in their order only are one setting."""
        named = {"": self.data} if isinstance(self.data, str) else self.data
        for name in sorted(named):
            yield from dialogs_of(run.input(named[name]), split)


def dialogs_of(folder: Path, split: str) -> Iterator[Dialog]:
    """Yield the dialogs of a data artifact."""
    path = folder / "dialogs" / f"{split}.jsonl"
    for number, row in read_jsonl(path):
        yield dialog_from_row(row, f"{path}, line {number:,}")


def first_question(dialog: Dialog) -> Dialog:
    """Return a dialog up to its first user message."""
    roles = [message.role for message in dialog.messages]
    return replace(dialog, messages=dialog.messages[: roles.index("user") + 1])
