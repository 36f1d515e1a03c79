"""Averages of models: by hand, against a soup by numpy, and refused where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from herdling.base.errors import LineageError, SettingsError
from herdling.checkpoint.average import average_models
from herdling.checkpoint.huggingface import load_model, save_model
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from tests.generate.toy_model import TEXT, toy_config, toy_tokenizer


def saved(folder: Path, seed: int, *, reward: bool = False, dtype: torch.dtype | None = None, shard: int = 10**9, **changes: Any) -> Path:
    """Write a model of random weights and return its folder."""
    model = Llama(toy_config(**changes))
    model.init_weights(seed)
    tokenizer = toy_tokenizer()
    made = RewardModel.from_llama(model, seed) if reward else model
    save_model(folder / str(seed), made, tokenizer, chat_format(tokenizer), dtype=dtype, max_shard_size=shard)
    return folder / str(seed)


def state(model: Llama | RewardModel) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}


def weights_of(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All weights of a folder, read by another library's numpy reader."""
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("reward", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 0.5]])
def test_every_weight_is_the_mean_that_numpy_takes(tmp_path: Path, reward: bool, weights: list[float] | None) -> None:
    folders = [saved(tmp_path, seed, reward=reward) for seed in (1, 2, 3)]
    averaged = state(average_models(folders, weights))
    soup = {name: np.average(np.stack([weights_of(folder)[name].astype(np.float64) for folder in folders]), axis=0, weights=weights) for name in averaged}
    assert averaged.keys() == weights_of(folders[0]).keys()
    for name, expected in soup.items():
        np.testing.assert_allclose(averaged[name], expected, rtol=0, atol=1e-6)


def test_by_hand(tmp_path: Path) -> None:
    folders = []
    for seed, value in ((1, 2.0), (2, 10.0)):
        folder = saved(tmp_path, seed)
        model = load_model(folder)
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(value)
        save_model(folder, model, toy_tokenizer(), chat_format(toy_tokenizer()))
        folders.append(folder)
    assert {float(value) for weight in average_models(folders).state_dict().values() for value in weight.unique()} == {6.0}
    assert {float(value) for weight in average_models(folders, [3, 1]).state_dict().values() for value in weight.unique()} == {4.0}


def test_sums_of_bfloat16_are_taken_in_float32(tmp_path: Path) -> None:
    folders = []
    for seed, value in ((1, 256.0), (2, 1.0), (3, 1.0)):  # in bfloat16 256 + 1 is 256, and the mean would come out as 85.5
        folder = saved(tmp_path, seed)
        model = load_model(folder)
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(value)
        save_model(folder, model, toy_tokenizer(), dtype=torch.bfloat16)
        folders.append(folder)
    averaged = average_models(folders)
    assert {weight.dtype for weight in averaged.parameters()} == {torch.bfloat16}
    assert {float(value) for weight in averaged.state_dict().values() for value in weight.unique()} == {86.0}


def test_weights_in_several_files_are_found(tmp_path: Path) -> None:
    one, other = saved(tmp_path, 1, shard=20_000), saved(tmp_path, 2)
    assert len(list(one.glob("model-*.safetensors"))) > 1
    averaged = state(average_models([one, other]))
    for name, value in weights_of(one).items():
        np.testing.assert_allclose(averaged[name], (value + weights_of(other)[name]) / 2, rtol=0, atol=1e-6)


def test_a_tied_output_stays_tied(tmp_path: Path) -> None:
    averaged = average_models([saved(tmp_path, seed, tie_word_embeddings=True) for seed in (1, 2)])
    assert isinstance(averaged, Llama)
    assert averaged.output_weight is averaged.model.embed_tokens.weight


def test_the_average_of_a_model_with_itself_is_the_model(tmp_path: Path) -> None:
    folder = saved(tmp_path, 1)
    averaged = state(average_models([folder, folder]))
    assert all(np.array_equal(averaged[name], value) for name, value in weights_of(folder).items())


def other_tokenizer(tmp_path: Path) -> Path:
    model = Llama(toy_config())
    model.init_weights(2)
    tokenizer = train_byte_level_bpe([TEXT[::-1] * 40], 330)
    save_model(tmp_path / "other", model, tokenizer, chat_format(tokenizer))
    return tmp_path / "other"


def other_template(tmp_path: Path) -> Path:
    model = load_model(saved(tmp_path, 2))
    save_model(tmp_path / "other", model, toy_tokenizer(), chat_format(toy_tokenizer(), "llama3"))
    return tmp_path / "other"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: saved(folder, 2, reward=True), "its kind is a reward model, that of .* is a language model"),
        (lambda folder: saved(folder, 2, hidden_size=96), "its hidden_size is 96, that of .* is 48"),
        (lambda folder: saved(folder, 2, max_position_embeddings=32), "its max_position_embeddings is 32"),
        (other_tokenizer, "its tokenizer is"),
        (other_template, "its chat template is"),
    ],
)
def test_models_that_differ_in_what_they_mean_are_refused_with_both_named(tmp_path: Path, make: Any, said: str) -> None:
    first = saved(tmp_path, 1)
    with pytest.raises(LineageError, match=said) as caught:
        average_models([first, make(tmp_path)])
    assert str(first) in str(caught.value)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_are_one_positive_number_each(tmp_path: Path, weights: list[float]) -> None:
    with pytest.raises(SettingsError, match="one positive number each"):
        average_models([saved(tmp_path, 1), saved(tmp_path, 2)], weights)


def test_one_model_has_no_average(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two models or more, found 1"):
        average_models([saved(tmp_path, 1)])
