"""Vectors of dialogs: the mean of the last hidden states, by a plain loop, and the same whoever stands beside."""

from __future__ import annotations

import numpy as np
import torch

from herdling.generate.embedding import embed_dialogs
from herdling.generate.loaded import LoadedModel
from herdling.tokenizer.chat_format import chat_format
from tests.data.toy_tokens import dialog
from tests.generate.toy_model import toy_model, toy_tokenizer

DIALOGS = [dialog("The quick", "brown fox"), dialog("which module has Counter?", "It is collections."), dialog("a", "b"), dialog("12 + 30", "42", "so?", "yes")]


def model() -> LoadedModel:
    return LoadedModel(toy_model(max_position_embeddings=256), toy_tokenizer(), chat_format(toy_tokenizer()))


def test_a_vector_is_the_mean_of_the_hidden_states_of_the_whole_dialog() -> None:
    loaded = model()
    found = embed_dialogs(loaded, DIALOGS)
    for one, vector in zip(DIALOGS, found, strict=True):
        ids = torch.tensor([loaded.chat_format.encode(one).ids])
        with torch.no_grad():
            mean = loaded.model(ids)[0].mean(0).double().numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_vector_does_not_depend_on_the_dialogs_beside_it() -> None:
    loaded = model()
    together = embed_dialogs(loaded, DIALOGS)
    for one, vector in zip(DIALOGS, together, strict=True):
        np.testing.assert_allclose(embed_dialogs(loaded, [one])[0], vector, atol=1e-5)


def test_of_a_dialog_longer_than_the_context_the_beginning_is_read() -> None:
    loaded = model()
    long = dialog("word " * 200, "b")
    ids = torch.tensor([loaded.chat_format.encode(long).ids[:256]])
    with torch.no_grad():
        mean = loaded.model(ids)[0].mean(0).double().numpy()
    np.testing.assert_allclose(embed_dialogs(loaded, [long])[0], mean / np.linalg.norm(mean), atol=1e-5)
