"""The whole model: packed rows equal separate ones, cached equals full, padding is harmless, names and initial weights are as documented."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from herdling.base.errors import ModelError
from herdling.model.cache import KVCache
from herdling.model.config import LlamaConfig
from herdling.model.heads import token_logprobs
from herdling.model.transformer import Llama

CONFIG = LlamaConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=1024,
)


def _model(config=CONFIG, seed=0):
    model = Llama(config)
    model.init_weights(seed)
    return model


def _packed(lengths, padding=0):
    """One row of documents: ids, positions that restart, document ids."""
    torch.manual_seed(1)
    documents = [torch.randint(0, 97, (length,)) for length in lengths]
    ids = torch.cat([*documents, torch.zeros(padding, dtype=torch.int64)])[None]
    positions = torch.cat([*(torch.arange(length) for length in lengths), torch.zeros(padding, dtype=torch.int64)])[None]
    numbers = torch.cat([*(torch.full((length,), number) for number, length in enumerate(lengths)), torch.full((padding,), -1)])[None]
    return documents, {"input_ids": ids, "position_ids": positions, "document_ids": numbers}


@pytest.mark.parametrize("lengths", [(5, 1, 20, 3), (100, 130, 60), (300, 400)])
def test_packed_documents_equal_separate_ones_forward_and_backward(lengths):
    model, alone = _model(), _model()
    documents, row = _packed(lengths, padding=9)
    hidden = model(**row)
    assert hidden.isfinite().all()
    separate = torch.cat([alone(document[None])[0] for document in documents])
    torch.testing.assert_close(hidden[0, : sum(lengths)], separate, atol=1e-5, rtol=0)
    weighting = torch.randn_like(separate)
    (hidden[0, : sum(lengths)] * weighting).sum().backward()
    (separate * weighting).sum().backward()
    for (name, weight), other in zip(model.named_parameters(), alone.parameters(), strict=True):
        if weight.grad is not None:
            assert (weight.grad - other.grad).norm() <= 1e-5 * other.grad.norm(), name


def test_a_row_of_padding_alone_is_finite_also_in_bfloat16():
    ids, padding = torch.zeros(2, 140, dtype=torch.int64), torch.full((2, 140), -1)
    assert _model()(ids, document_ids=padding).isfinite().all()
    assert _model().bfloat16()(ids, document_ids=padding).isfinite().all()


def test_no_position_sees_a_later_one():
    model, ids = _model(), torch.randint(0, 97, (1, 300))
    changed = ids.clone()
    changed[0, 200] = (ids[0, 200] + 1) % 97
    before, after = model(ids), model(changed)
    assert torch.equal(before[0, :200], after[0, :200])
    assert not torch.equal(before[0, 200], after[0, 200])


def test_cached_steps_equal_the_full_forward_for_rows_of_any_length():
    model, ids = _model(), torch.randint(0, 97, (3, 30))
    lengths = torch.tensor([7, 20, 1])
    cache = KVCache(CONFIG, 3, 40)
    prompt = torch.where(torch.arange(20) < lengths[:, None], ids[:, :20], 0)
    with torch.no_grad():
        full = model(ids)
        read = model(prompt, document_ids=torch.where(torch.arange(20) < lengths[:, None], 0, -1), cache=cache)
        assert cache.lengths.tolist() == [7, 20, 1]
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(read[row, :length], full[row, :length], atol=1e-5, rtol=0)
        for step in range(10):
            hidden = model(ids[torch.arange(3), lengths + step][:, None], cache=cache)
            torch.testing.assert_close(hidden[:, 0], full[torch.arange(3), lengths + step], atol=1e-5, rtol=0)


def test_kept_and_cut_rows_go_on_as_if_alone():
    model, ids = _model(), torch.randint(0, 97, (3, 12))
    cache = KVCache(CONFIG, 3, 16)
    with torch.no_grad():
        model(ids[:, :8], cache=cache)
        cache.keep([2, 0])
        cache.truncate(5)
        hidden = model(ids[[2, 0], 5:9], cache=cache)
        torch.testing.assert_close(hidden, model(ids[[2, 0], :9])[:, 5:], atol=1e-5, rtol=0)
    assert cache.lengths.tolist() == [9, 9]


def test_a_full_cache_says_so():
    cache = KVCache(CONFIG, 1, 4)
    with torch.no_grad(), pytest.raises(ModelError, match="holds 4 positions"):
        _model()(torch.zeros(1, 5, dtype=torch.int64), cache=cache)


def test_weights_have_the_documented_size_and_follow_the_seed():
    config = replace(CONFIG, hidden_size=256, intermediate_size=512, num_attention_heads=32, num_key_value_heads=32)
    model = _model(config, seed=5)
    weights = model.state_dict()
    assert weights["model.layers.0.self_attn.q_proj.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    assert weights["model.layers.1.mlp.down_proj.weight"].std().item() == pytest.approx(0.02 / 6**0.5, rel=0.02)
    assert weights["model.embed_tokens.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    assert torch.equal(weights["model.norm.weight"], torch.ones(256))
    same, another = _model(config, seed=5).state_dict(), _model(config, seed=6).state_dict()
    for name, weight in weights.items():
        assert torch.equal(weight, same[name]), name
        assert weight.ndim == 1 or not torch.equal(weight, another[name]), name


def test_a_tied_model_has_one_matrix_that_both_ends_train():
    model = _model(replace(CONFIG, tie_word_embeddings=True))
    assert "lm_head.weight" not in model.state_dict()
    assert model.output_weight is model.model.embed_tokens.weight


def test_float32_angles_survive_a_cast_of_the_model():
    model = _model().bfloat16()
    assert all(table.dtype == torch.float32 for table in model.rope.on(torch.device("cpu")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch has deprecated
def test_a_compiled_model_is_compiled_once():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model, ids = _model(), torch.zeros(2, 16, dtype=torch.int64)
    forward = torch.compile(model.forward, dynamic=False, backend=counter)
    for _ in range(3):
        forward(ids, position_ids=torch.arange(16).expand(2, 16), document_ids=torch.zeros_like(ids)).sum().backward()
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch has deprecated
def test_compiled_training_gives_the_loss_and_gradients_of_eager():
    ids = torch.randint(0, 97, (2, 40))
    eager, compiled = _model(), _model()
    compiled.compile()
    for model in (eager, compiled):
        (-token_logprobs(model(ids), model.output_weight, ids.roll(-1, 1), torch.ones_like(ids, dtype=torch.bool)).mean()).backward()
    for one, other in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)
