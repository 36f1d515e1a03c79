"""Every backend of attention against softmax written out in float64 under the mask of documents, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from herdling.model.attention import flex_rule, self_attention
from herdling.model.blockwise import BLOCK, SHORT
from herdling.model.masks import document_mask, first_readable, hidden_interval


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention as the formula has it; key head j serves query heads j * H / H_kv and the following."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


def document_rows(length: int, *, rows: int = 2) -> Tensor:
    """Rows of documents of random lengths with padding at the end of the last one."""
    generator = torch.Generator().manual_seed(length)
    ids = (torch.rand(rows, length, generator=generator) < 6 / length).long().cumsum(1)
    ids[-1, -length // 5 :] = -1
    return ids


def test_the_mask_is_what_its_definition_says():
    ids = torch.tensor([[0, 0, 1, 1, -1, -1]])
    mask = document_mask(ids)[0, 0]
    for query in range(6):
        for key in range(6):
            same = ids[0, query] == ids[0, key] and ids[0, query] >= 0
            assert bool(mask[query, key]) == (query == key or (key < query and bool(same))), (query, key)
    assert first_readable(ids).tolist() == [[0, 0, 2, 2, 4, 5]]


def response_rows(ids: Tensor) -> Tensor:
    """Cut each document into a prompt and up to three responses, at random places."""
    generator = torch.Generator().manual_seed(1)
    responses = torch.zeros_like(ids)
    for row in range(len(ids)):
        for document in ids[row][ids[row] >= 0].unique():
            places = (ids[row] == document).nonzero().flatten()
            cuts = (torch.rand(3, generator=generator) * (len(places) + 1)).long()
            for cut in cuts:
                responses[row, places[cut:]] += 1
    return responses


def test_a_response_reads_its_prompt_and_itself_and_no_other_response():
    ids = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 1, -1, -1]])
    responses = torch.tensor([[0, 0, 1, 1, 2, 3, 0, 1, 2, 0, 0]])
    mask = document_mask(ids, responses)[0, 0]
    for query in range(11):
        for key in range(11):
            same = ids[0, query] == ids[0, key] and ids[0, query] >= 0 and responses[0, key] in (0, responses[0, query])
            assert bool(mask[query, key]) == (query == key or (key < query and bool(same))), (query, key)
    assert hidden_interval(ids, responses)[0].tolist()[2:9] == [[2, 2], [2, 2], [2, 4], [2, 5], [6, 6], [7, 7], [7, 8]]


@pytest.mark.parametrize("length", [1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5, SHORT, SHORT + 3])
@pytest.mark.parametrize("packed", ["", "documents", "responses"])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2), (3, 1)])
def test_reading_and_its_gradients_are_those_of_the_formula(length, packed, heads, key_heads):
    torch.manual_seed(0)
    ids = document_rows(length) if packed else None
    responses = response_rows(ids) if packed == "responses" else None
    mask = document_mask(ids if packed else torch.zeros(2, length, dtype=torch.int64), responses)
    inputs = [torch.randn(2, count, length, 16, requires_grad=True) for count in (heads, key_heads, key_heads)]
    weights = torch.randn(2, heads, length, 16)
    read = self_attention(ids, length, torch.device("cpu"), responses)(0, *inputs)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = reference(*exact, mask)
    torch.testing.assert_close(read, expected.float(), atol=1e-5, rtol=1e-4)
    (read * weights).sum().backward()
    (expected * weights).sum().backward()
    for found, wanted in zip(inputs, exact, strict=True):
        assert (found.grad - wanted.grad).norm() <= 1e-5 * wanted.grad.norm() + 1e-6


def test_bfloat16_is_near_the_formula():
    torch.manual_seed(0)
    ids = document_rows(200)
    inputs = [torch.randn(2, 4, 200, 32).bfloat16() for _ in range(3)]
    read = self_attention(ids, 200, torch.device("cpu"))(0, *inputs)
    expected = reference(*(x.double() for x in inputs), document_mask(ids))
    assert read.dtype == torch.bfloat16
    assert (read.double() - expected).norm() < 0.01 * expected.norm()


def test_the_operators_keep_their_promises_to_the_compiler():
    q, k, v = (torch.randn(2, heads, 5, 4, requires_grad=True) for heads in (4, 2, 2))
    first, gap = torch.zeros(2, 5, dtype=torch.int64), torch.tensor([0, 0, 0, 1, 1]).repeat(2, 1)
    for hidden in (None, hidden_interval(first, gap)):
        results = torch.library.opcheck(torch.ops.herdling.attend.default, (q, k, v, first, hidden))
        assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("shared", [False, True])
def test_the_rule_for_flex_attention_is_the_mask(shared):
    ids = document_rows(60)
    responses = response_rows(ids) if shared else None
    hidden = hidden_interval(ids, responses) if shared else None
    found = create_mask(flex_rule(first_readable(ids), hidden), 2, None, 60, 60, device="cpu")
    assert torch.equal(found, document_mask(ids, responses))


@pytest.mark.gpu
@pytest.mark.parametrize("shared", [False, True])
def test_flex_attention_on_a_gpu_is_the_formula(shared):
    torch.manual_seed(0)
    ids = document_rows(300).cuda()
    responses = response_rows(ids.cpu()).cuda() if shared else None
    inputs = [torch.randn(2, heads, 300, 64, device="cuda", requires_grad=True) for heads in (4, 2, 2)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    read, expected = self_attention(ids, 300, ids.device, responses)(0, *inputs), reference(*exact, document_mask(ids, responses))
    torch.testing.assert_close(read, expected.float(), atol=1e-3, rtol=1e-2)
    read.sum().backward()
    expected.sum().backward()
    for found, wanted in zip(inputs, exact, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad.float(), atol=1e-3, rtol=1e-2)
