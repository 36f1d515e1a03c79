"""Bits per byte against hand-worked values and a plain pass; windows score every token once."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from herdling.data.token_shards import TokenShards, write_shards
from herdling.evals.likelihood import Likelihood, likelihood, windows, xz_bits_per_byte
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.types import Document

BOS, EOS = 256, 257


class Bytes:
    """A tokenizer whose tokens are the bytes of the text."""

    vocab_size, bos_id, eos_id, pad_id, family, fingerprint = 258, BOS, EOS, -1, "llama2", "bytes"

    def encode_batch(self, texts: list[str], threads: int | None = None) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    texts = ["A short one.", "x" * 3, "A much longer document, with ünïcode. " * 3, "y"]
    return write_shards(tmp_path / "s", "s", (Document(text=text, id=text, source="s") for text in texts), Bytes())  # type: ignore[arg-type]


@pytest.fixture
def model() -> Llama:
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
    )
    made = Llama(config)
    made.init_weights(0)
    return made


def plain_nats(model: Llama, shards: TokenShards) -> float:
    total = 0.0
    with torch.inference_mode():
        for index in range(shards.num_documents):
            ids = torch.from_numpy(shards.document(index).astype(np.int64))[None]
            total += float(F.cross_entropy(model.logits(model(ids[:, :-1]))[0], ids[0, 1:], reduction="sum"))
    return total


@pytest.mark.parametrize("length", [1, 2, 7, 8, 100])
def test_windows_score_every_token_but_the_first_once_with_at_least_half_a_window_before_it(length: int) -> None:
    for size in (1, 2, 3, 8, 9, 16, 17, 50):
        parts = list(windows([size], length))
        assert [token for part in parts for token in range(part.scored, part.last)] == list(range(1, size))
        assert all(part.last - part.first <= length + 1 for part in parts)
        assert all(part.first == 0 or part.scored - part.first >= length // 2 for part in parts)


def test_a_window_over_the_whole_document_is_the_plain_pass(model: Llama, shards: TokenShards) -> None:
    scored = likelihood(model, shards, window=400)
    assert scored.nats == pytest.approx(plain_nats(model, shards), rel=1e-6)
    assert scored.num_tokens == shards.num_tokens - shards.num_documents
    assert scored.num_bytes == shards.num_bytes
    assert scored.bits_per_byte == pytest.approx(scored.nats / math.log(2) / shards.num_bytes)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary(shards: TokenShards) -> None:
    class Uniform(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output_weight = torch.nn.Parameter(torch.zeros(258, 4))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.ones(*ids.shape, 4)

    for window in (4, 64):
        scored = likelihood(Uniform(), shards, window=window)  # type: ignore[arg-type]
        assert scored.nats == pytest.approx(scored.num_tokens * math.log(258), rel=1e-6)
        assert scored.perplexity_per_token == pytest.approx(258, rel=1e-5)


def test_only_the_first_documents_are_read_under_a_limit(model: Llama, shards: TokenShards) -> None:
    scored = likelihood(model, shards, window=64, max_tokens=20)
    assert (scored.num_tokens, scored.num_bytes) == (13 + 4, 12 + 3)


def test_nothing_needs_no_bits() -> None:
    assert Likelihood(nats=0, num_tokens=0, num_bytes=0).bits_per_byte == 0
    assert xz_bits_per_byte([]) == 0


def test_xz_is_what_the_command_gives(tmp_path: Path) -> None:
    texts = ["The same words again and again. " * 20, "ünïcode"]
    path = tmp_path / "text"
    path.write_bytes("".join(texts).encode())
    try:
        packed = subprocess.run(["xz", "-9", "-e", "-c", str(path)], capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("the command xz is not installed")
    assert xz_bits_per_byte(texts) == 8 * len(packed) / path.stat().st_size
