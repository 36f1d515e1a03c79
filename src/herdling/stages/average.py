"""The stages average and average_rewards: one model of several, whose weights are the mean of theirs.

Read model folders of one shape, tokenizer and chat template; write a model folder, and `results.json` where the models were ranked. Train nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.base.ledger import Ledger
from herdling.stages.registry import DataInput, ModelInput, RewardInput, StageRun, stage
from herdling.stages.sft import dialogs_of

if TYPE_CHECKING:
    from herdling.model.reward import RewardModel
    from herdling.model.transformer import Llama


@stage("average", output="model")
class Average:
    """Average models that were trained on different versions of the data or with different hyper-parameters, after SFT and after DPO (Llama 3, section 4.1.5).

    With `rank_by` they are ranked first, and the average of the best K is kept, K being that whose average scores best (Llama 3, section 7.5.2).
    """

    models: dict[str, ModelInput]
    """Label -> the model: two or more of one shape, tokenizer and chat template."""
    weights: dict[str, float] | None = None
    """Label -> its weight in the mean. Unset: all count alike."""
    rank_by: DataInput | None = None
    """Rank the models, and their averages, by bits per byte of the held-out answers of this data. Unset: all of them are averaged."""

    def run(self, run: StageRun) -> None:
        """Check, rank if asked to, average, save."""
        weights = _weights(f"stages.{run.name}", self.models, self.weights)
        folders = {label: run.input(reference) for label, reference in self.models.items()}
        if self.rank_by is None:
            _average_all(run, folders, weights)
            return
        from herdling.checkpoint.average import average_models, check_alike
        from herdling.checkpoint.huggingface import load_model

        check_alike(list(folders.values()))
        measure = _held_out_loss(run, run.input(self.rank_by), next(iter(folders.values())))
        alone = {label: measure(load_model(folder)) for label, folder in folders.items()}
        ranked = sorted(folders, key=alone.__getitem__)
        tried = {1: alone[ranked[0]]}
        for count in range(2, len(ranked) + 1):
            tried[count] = measure(average_models([folders[label] for label in ranked[:count]], [weights[label] for label in ranked[:count]]))
        best = min(tried, key=tried.__getitem__)
        write_json_atomic(run.folder / "results.json", {"bits_per_byte": alone, "ranked": ranked, "best_k": best, "averages": tried})
        kept = {label: folders[label] for label in ranked[:best]}
        _average_all(run, kept, weights)
        run.summary |= {"bits_per_byte": round(tried[best], 4), "best_alone": round(tried[1], 4)}


@stage("average_rewards", output="reward")
class AverageRewards:
    """Average reward models that were trained on different versions of the data or with different hyper-parameters (Llama 3, section 4.1.5)."""

    models: dict[str, RewardInput]
    """Label -> the reward model: two or more of one shape, tokenizer and chat template."""
    weights: dict[str, float] | None = None
    """Label -> its weight in the mean. Unset: all count alike."""

    def run(self, run: StageRun) -> None:
        """Check, average, save."""
        weights = _weights(f"stages.{run.name}", self.models, self.weights)
        _average_all(run, {label: run.input(reference) for label, reference in self.models.items()}, weights)


def _weights(where: str, models: Mapping[str, str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return label -> weight. Raises `SettingsError` where there are not two models with a weight each."""
    if len(models) < 2:
        raise SettingsError(f"{where}.models: found {len(models)}, an average takes two models or more")
    for label in weights or {}:
        if label not in models:
            raise SettingsError(f"{where}.weights.{label}: there is no such model{did_you_mean(label, models)}; there are: {', '.join(models)}")
    if weights is not None and len(weights) < len(models):
        raise SettingsError(f"{where}.weights: {', '.join(label for label in models if label not in weights)} has none. Weigh all models, or none")
    return dict(weights or dict.fromkeys(models, 1.0))


def _average_all(run: StageRun, folders: Mapping[str, Path], weights: Mapping[str, float]) -> None:
    """Average these models (one alone stays as it is) and save the result with their tokenizer and chat template."""
    from herdling.checkpoint.average import average_models
    from herdling.checkpoint.huggingface import load_model, save_model
    from herdling.generate.loaded import load

    labels, paths = list(folders), list(folders.values())
    model: Llama | RewardModel = load_model(paths[0]) if len(paths) == 1 else average_models(paths, [weights[label] for label in labels])
    first = load(paths[0])
    template = first.chat_format if first.can_chat else None
    run.record(tokenizer=first.tokenizer.fingerprint, chat_template=template.fingerprint if template else "")
    save_model(run.folder, model, first.tokenizer, template)
    run.summary |= {"models": len(labels), "parameters": sum(weight.numel() for weight in model.parameters())}


def _held_out_loss(run: StageRun, data: Path, like: Path) -> Callable[[Llama | RewardModel], float]:
    """Return a function that measures a model: bits per byte of the answers of held-out dialogs, written in the format of the model in `like`."""
    from torch import device

    from herdling.data.dialog_rows import DialogRows, encode_dialogs
    from herdling.generate.loaded import load
    from herdling.train.forward import scorer
    from herdling.train.validation import rows_bits_per_byte

    first = load(like)
    template, length = first.chat_format, first.config.max_position_embeddings
    held_out = encode_dialogs(dialogs_of(data, "validation"), template, Ledger(run.name), sequence_length=length)
    if not len(held_out.ends):
        raise DataError(f"stages.{run.name}.rank_by: {data} has no held-out dialogs to rank by")
    num_bytes = len(first.tokenizer.decode_bytes(held_out.ids[held_out.trained].tolist()))
    rows = DialogRows(held_out, sequence_length=length, epochs=1, seed=0, pad_id=first.tokenizer.pad_id)
    return lambda model: rows_bits_per_byte(scorer(model), rows, num_bytes, device("cpu"))
