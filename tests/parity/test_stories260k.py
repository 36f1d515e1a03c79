"""A real trained Llama of 260K parameters: its greedy tokens, logits and log-probabilities, from both file forms.

The reference was computed by an independent float64 program and agrees with llama2.c. Reads the kit (HERDLING_KIT, else ../shared/kit by the project);
skipped, saying so, where it is absent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import herdling
from herdling.generate.decode import Decoder, PlainDecoder, read_prompts
from herdling.generate.loaded import LoadedModel
from herdling.types import Sampling

KIT = Path(os.environ.get("HERDLING_KIT") or Path(__file__).parents[2] / "../shared/kit")
FILES = KIT / "checkpoints"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason=f"the kit is not at {KIT} (set HERDLING_KIT)")


@pytest.fixture(scope="module", params=["stories260K.bin", "stories260K_hf"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return herdling.load(FILES / request.param, tokenizer=FILES / "tok512.model")


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FILES / "stories260K_reference.json").read_text())["cases"]
    return found


def test_both_files_give_identical_logits() -> None:
    ids = torch.randint(0, 512, (2, 100), generator=torch.Generator().manual_seed(0))
    first, second = (herdling.load(FILES / name).logits(ids) for name in ("stories260K.bin", "stories260K_hf"))
    assert torch.equal(first, second)


def test_logits_and_logprobs_are_the_reference(model: LoadedModel, cases: list[dict[str, Any]]) -> None:
    for case in cases:
        ids = model.tokenizer.encode(case["prompt"], bos=True)
        assert ids == case["ids"]
        logits = model.logits(ids)
        assert torch.allclose(logits[-1], torch.tensor(case["last_logits"]), atol=1e-4)
        logprobs = torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]
        assert torch.allclose(logprobs, torch.tensor(case["token_logprobs"]), atol=1e-4)


def test_greedy_answers_are_the_reference_alone_and_together(model: LoadedModel, cases: list[dict[str, Any]]) -> None:
    greedy = Sampling(temperature=0, max_tokens=40)
    together = model.answer([case["ids"] for case in cases], greedy)
    for case, answer in zip(cases, together, strict=True):
        assert answer.token_ids == case["greedy_40"]
        assert model.answer([case["ids"]], greedy)[0].token_ids == case["greedy_40"]
        assert model.tokenizer.decode([*case["ids"], *answer.token_ids]) == case["greedy_text"]


def test_two_hundred_greedy_tokens_are_the_published_text(model: LoadedModel) -> None:
    published = (FILES / "stories260K_expected_stdout.txt").read_text(encoding="utf-8").rstrip("\n")
    assert model.generate("", max_tokens=200, temperature=0) == published
    assert "".join(model.stream("", Sampling(max_tokens=200, temperature=0))) == published


@pytest.mark.parametrize("kind", [Decoder, PlainDecoder])
def test_each_decoder_gives_the_full_forward(model: LoadedModel, kind: type[Decoder] | type[PlainDecoder]) -> None:
    ids = model.tokenizer.encode((FILES / "stories260K_expected_stdout.txt").read_text(encoding="utf-8"), bos=True)
    whole = model.logits(ids)
    decoder = kind(model.model)
    logits = [decoder.begin(read_prompts(decoder.model, [ids[:1]]), [0], len(ids))[0], *(decoder.step(torch.tensor([token]))[0] for token in ids[1:])]
    assert torch.allclose(torch.stack(logits), whole, atol=1e-4)
