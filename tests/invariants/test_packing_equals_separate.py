"""Documents packed into one row score, and train, as if each had a row of its own."""

import numpy as np
import pytest
import torch

from herdling.base.seeds import stream
from herdling.data.batch import concatenate_rows, make_batch
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.train.config import OptimizerConfig
from herdling.train.forward import scorer
from herdling.train.losses import NextToken
from herdling.train.optim import Optimizer

LENGTHS = [5, 17, 1, 9, 24]  # of 64: the rest of the row is padding


def tiny_llama():
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
    )
    model = Llama(config)
    model.init_weights(0)
    return model


def row(documents, length):
    """Return one row of `length` that holds these documents, padded."""
    tokens = np.zeros(length + 1, np.int64)
    mask, starts, padding = (np.zeros(length, bool) for _ in range(3))
    position = 0
    for ids in documents:
        tokens[position : position + len(ids)] = ids
        starts[position] = True
        mask[position : position + len(ids) - 1] = True
        position += len(ids)
    padding[position:] = True
    return make_batch(tokens[None, :-1], tokens[None, 1:], mask[None], starts[None], padding[None])


def both(scale=1):
    chance = stream(0, "documents")
    documents = [chance.integers(1, 61, size * scale) for size in LENGTHS]
    return row(documents, 64 * scale), concatenate_rows([row([ids], 24 * scale) for ids in documents])


@pytest.mark.parametrize("scale", [1, 10])  # rows of 64 are attended densely on a CPU, rows of 640 document by document
def test_log_probabilities_are_those_of_separate_rows(scale):
    score = scorer(tiny_llama())
    packed, separate = both(scale)
    with torch.no_grad():
        ours, theirs = score(packed).logprobs[packed.loss_mask], score(separate).logprobs[separate.loss_mask]
    assert ours.numel() == (sum(LENGTHS) * scale - len(LENGTHS))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_step_on_packed_rows_is_the_step_on_separate_ones():
    moved = []
    for batch in both():
        model, objective = tiny_llama(), NextToken()
        optimizer = Optimizer(model, OptimizerConfig())
        loss, _ = objective.loss(scorer(model)(batch), batch)
        (loss / objective.count(batch)).backward()
        moved.append(torch.cat([gradient.flatten() for gradient in optimizer.gradients]))
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-5)
