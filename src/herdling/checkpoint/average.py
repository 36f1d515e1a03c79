"""The average of several models of one shape: their weights, one by one (Llama 3, section 4.1.5; a "soup", Wortsman et al. 2022, arXiv 2203.05482).

Reads model folders (chat models or reward models) and gives a model. Sums are taken in float32 whatever the files hold. Costs the memory of one model and of
one weight more: weights are read as they are summed. Models that differ in shape, tokenizer or chat template have no average and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor

from herdling.base.errors import LineageError, SettingsError
from herdling.checkpoint.huggingface import model_from_state, open_weights, recorded_fingerprints, reward_model_from_state, weight_shapes
from herdling.checkpoint.huggingface_config import is_reward_model, load_config
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama


def average_models(folders: Sequence[Path], weights: Sequence[float] | None = None) -> Llama | RewardModel:
    """Return the model whose every weight is sum(w_i * weight_i) / sum(w_i) of the folders' (all w_i = 1 where none are given), in the first one's type.

    Raises:
        SettingsError: fewer than two models, or weights that are no positive numbers, one each.
        LineageError: two models differ in kind, shape, tokenizer or chat template; both are named.
        ModelError: a folder holds no whole model.
    """
    shares = _shares(len(folders), weights)
    check_alike(folders)
    kind = RewardModel if is_reward_model(folders[0]) else Llama
    config = load_config(folders[0])
    state: dict[str, Tensor] = {}
    with ExitStack() as stack:
        readers = [stack.enter_context(open_weights(folder, kind, load_config(folder))) for folder in folders]
        for name in weight_shapes(kind, config):
            first = readers[0](name)
            total = first.float() * shares[0]
            for read, share in zip(readers[1:], shares[1:], strict=True):
                total.add_(read(name).float(), alpha=share)
            state[name] = total.to(first.dtype)
    return reward_model_from_state(config, state) if kind is RewardModel else model_from_state(config, state, device="cpu", dtype=None)


def check_alike(folders: Sequence[Path]) -> None:
    """Raise `LineageError` when a model cannot be averaged with the first: another kind, shape, tokenizer or chat template."""
    expected = _identity(folders[0])
    for folder in folders[1:]:
        found = _identity(folder)
        for what in expected:
            if found[what] != expected[what]:
                raise LineageError(
                    f"{folder}: its {what} is {found[what]}, that of {folders[0]} is {expected[what]}. Only models that have both in common have an average:"
                    " take variants that were trained from one base"
                )


def _identity(folder: Path) -> dict[str, Any]:
    """Return what must be equal, in the words of the message."""
    recorded = recorded_fingerprints(folder)
    prints = {name.replace("_", " "): recorded.get(name, "not recorded")[:12] for name in ("tokenizer", "chat_template")}
    return {"kind": "a reward model" if is_reward_model(folder) else "a language model", **asdict(load_config(folder)), **prints}


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """Return the shares of the models, whose sum is 1."""
    given = [1.0] * count if weights is None else list(weights)
    if count < 2:
        raise SettingsError(f"an average takes two models or more, found {count}")
    if len(given) != count or not all(isfinite(weight) and weight > 0 for weight in given):
        raise SettingsError(f"weights: found {given} for {count} models, expected one positive number each")
    return [weight / sum(given) for weight in given]
