"""Our Llama against transformers' LlamaForCausalLM with the same weights: logits and gradients, over random shapes."""

from __future__ import annotations

import random

import pytest
import torch

from herdling.model.config import LlamaConfig, RopeScalingConfig
from herdling.model.heads import token_logprobs
from herdling.model.transformer import Llama

transformers = pytest.importorskip("transformers")


def _shape(seed: int) -> LlamaConfig:
    """A random shape: grouped and plain, odd head counts, tied and not, head widths that do not divide the width, stretched angles."""
    chance = random.Random(seed)
    groups, per_group = chance.choice([(1, 3), (3, 1), (2, 2), (1, 1), (5, 1), (2, 3), (3, 3), (7, 1), (4, 2)])
    stretched = seed % 3 == 0
    return LlamaConfig(
        vocab_size=chance.randint(50, 300),
        hidden_size=groups * per_group * chance.choice([5, 8, 12]),  # transformers wants a multiple of the heads; head_dim is free
        intermediate_size=chance.randint(30, 120),
        num_hidden_layers=chance.randint(1, 4),
        num_attention_heads=groups * per_group,
        num_key_value_heads=groups,
        head_dim=chance.choice([4, 6, 8, 16]),
        max_position_embeddings=1024,
        rms_norm_eps=chance.choice([1e-5, 1e-6]),
        rope_theta=chance.choice([10_000.0, 500_000.0]),
        rope_scaling=RopeScalingConfig(factor=chance.choice([8.0, 32.0]), original_max_position_embeddings=64) if stretched else None,
        tie_word_embeddings=chance.random() < 0.5,
    )


def _peer(config: LlamaConfig, ours: Llama):
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        rope |= {"rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
        rope |= {"original_max_position_embeddings": scaling.original_max_position_embeddings}
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    names += ("max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")
    settings = transformers.LlamaConfig(**{name: getattr(config, name) for name in names}, rope_parameters=rope, attn_implementation="eager")
    peer = transformers.LlamaForCausalLM(settings)
    missing, unexpected = peer.load_state_dict(ours.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) <= ({"lm_head.weight"} if config.tie_word_embeddings else set())
    return peer


def _pair(seed: int):
    config = _shape(seed)
    ours = Llama(config)
    ours.init_weights(seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in ours.parameters():  # larger than at the start of training, gains too: differences would show
            weight.add_(torch.randn_like(weight) * 0.1)
    return config, ours, _peer(config, ours)


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).norm() <= 1e-4 * wanted.norm())


@pytest.mark.parametrize("seed", range(12))
def test_logits_and_gradients_of_random_shapes(seed):
    config, ours, peer = _pair(seed)
    ids = torch.randint(0, config.vocab_size, (2, 130 if seed % 2 else 33))
    hidden, theirs = ours(ids), peer(ids).logits
    assert (ours.logits(hidden) - theirs).abs().max() < 1e-4
    every = torch.ones(2, ids.shape[1] - 1, dtype=torch.bool)
    loss = -token_logprobs(hidden[:, :-1], ours.output_weight, ids[:, 1:], every).mean()
    expected = torch.nn.functional.cross_entropy(theirs[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - expected.item()) < 1e-5
    loss.backward()
    expected.backward()
    grads = dict(peer.named_parameters())
    for name, weight in ours.named_parameters():
        assert _close(weight.grad, grads[name].grad), name


@pytest.mark.parametrize("seed", range(3))
def test_packed_documents_are_the_peers_separate_rows(seed):
    config, ours, peer = _pair(seed)
    lengths = (3, 40, 150, 1)
    documents = [torch.randint(0, config.vocab_size, (length,)) for length in lengths]
    row = torch.cat(documents)[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    numbers = torch.cat([torch.full((length,), number) for number, length in enumerate(lengths)])[None]
    logits = ours.logits(ours(row, position_ids=positions, document_ids=numbers))[0]
    theirs = torch.cat([peer(document[None]).logits[0] for document in documents])
    assert (logits - theirs).abs().max() < 1e-4
    weighting = torch.randn_like(logits)
    (logits * weighting).sum().backward()
    (theirs * weighting).sum().backward()
    grads = dict(peer.named_parameters())
    for name, weight in ours.named_parameters():
        assert _close(weight.grad, grads[name].grad), name
