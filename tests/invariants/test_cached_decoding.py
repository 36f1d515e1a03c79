"""Decoding with a cache gives what the whole forward gives: for every shape, prompts of different lengths, and rows that leave on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from herdling.generate.decode import Decoder, PlainDecoder, make_decoder, read_prompts
from herdling.model.transformer import Llama
from tests.generate.toy_model import SHAPES, toy_model

LENGTHS = [5, 1, 17]


def largest_difference(model: Llama, decoder: Decoder | PlainDecoder) -> float:
    """Feed three rows token by token, drop one half-way; compare every step with the forward over the whole row."""
    ids = torch.randint(0, model.config.vocab_size, (3, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.logits(model(ids))
    logits = decoder.begin(read_prompts(model, [row[:length].tolist() for row, length in zip(ids, LENGTHS, strict=True)]), range(3), 60)
    largest = max(float((logits[row] - whole[row, length - 1]).abs().max()) for row, length in enumerate(LENGTHS))
    rows = [0, 1, 2]
    for step in range(40):
        if step == 20:
            decoder.keep([2, 0])
            rows = [2, 0]
        logits = decoder.step(torch.stack([ids[row, LENGTHS[row] + step] for row in rows]))
        largest = max(largest, *(float((logits[place] - whole[row, LENGTHS[row] + step]).abs().max()) for place, row in enumerate(rows)))
    return largest


@pytest.mark.parametrize("kind", [Decoder, PlainDecoder])
@pytest.mark.parametrize("shape", SHAPES)
def test_cached_decoding_is_the_full_forward(shape: str, kind: type[Decoder] | type[PlainDecoder]) -> None:
    changes: dict[str, Any] = SHAPES[shape]
    model = toy_model(**changes)
    assert largest_difference(model, kind(model)) < 1e-4  # logits here reach 50


def test_a_row_that_rests_does_not_disturb_the_others() -> None:
    model = toy_model()
    ids = torch.randint(0, 330, (2, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.logits(model(ids))
    decoder = Decoder(model)
    decoder.begin(read_prompts(model, [ids[0, :40].tolist(), ids[1, :3].tolist()]), range(2), 60)
    decoder.rest(0)
    for step in range(19):
        logits = decoder.step(torch.stack((torch.tensor(0), ids[1, 3 + step])))
        assert torch.allclose(logits[1], whole[1, 3 + step], atol=1e-4)


def test_a_bfloat16_model_decodes_within_its_own_rounding() -> None:
    """Its residual stream is float32, so it is at least as near to the exact result of these weights as the model's own forward is."""
    model = toy_model().to(torch.bfloat16)
    exact = toy_model()
    exact.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    ids = torch.randint(0, 330, (1, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, rounded = exact.logits(exact(ids)), model.logits(model(ids))
    decoder = Decoder(model)
    decoder.begin(read_prompts(model, [ids[0, :1].tolist()]), [0], 40)
    steps = torch.stack([decoder.step(ids[:, place])[0] for place in range(1, 30)])
    assert (steps - whole[0, 1:]).square().mean() <= (rounded[0, 1:] - whole[0, 1:]).square().mean()


def test_small_models_on_a_cpu_get_the_prepared_decoder() -> None:
    assert isinstance(make_decoder(toy_model()), Decoder)
