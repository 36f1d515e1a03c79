from __future__ import annotations

import pytest
import torch

from herdling.base.errors import DataError, SettingsError
from herdling.generate.decode import Decoder, PlainDecoder
from herdling.generate.engine import Engine, Request, text_of
from herdling.types import Sampling
from tests.generate.toy_model import toy_engine, toy_model, toy_tokenizer

GREEDY = Sampling(temperature=0, max_tokens=20)
PROMPTS = [[3], [7, 300, 12, 4, 90, 11], list(range(40)), [5, 5, 5], [250, 1], [8] * 12]


def test_greedy_is_the_likeliest_token_of_the_full_forward_each_time() -> None:
    model = toy_model()
    answers = Engine(model, None).generate([Request(prompt, GREEDY) for prompt in PROMPTS], logprobs=True)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer.token_ids]])
        with torch.no_grad():
            logits = model.logits(model(ids))[0, len(prompt) - 1 : -1]
        assert logits.argmax(-1).tolist() == answer.token_ids
        expected = torch.log_softmax(logits, -1).gather(1, ids[0, len(prompt) :, None])[:, 0]
        assert torch.allclose(torch.tensor(answer.logprobs), expected, atol=1e-4)


@pytest.mark.parametrize("max_rows", [1, 2, 3, 32])
def test_an_answer_does_not_depend_on_the_batch_it_is_in(max_rows: int) -> None:
    samplings = [Sampling(temperature=1.0, top_p=0.95, seed=seed, max_tokens=5 + 4 * seed) for seed in range(len(PROMPTS))]
    requests = [Request(prompt, sampling) for prompt, sampling in zip(PROMPTS, samplings, strict=True)]
    alone = [toy_engine().generate([request])[0] for request in requests]
    engine = Engine(toy_model(), toy_tokenizer(), max_rows=max_rows)
    together = engine.generate(requests)
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert [answer.stop_reason for answer in together] == [answer.stop_reason for answer in alone]


@pytest.mark.parametrize("kind", [Decoder, PlainDecoder])
def test_many_samples_of_one_prompt_are_those_that_it_gives_alone_and_it_is_read_once(kind: type[Decoder] | type[PlainDecoder]) -> None:
    prompts = [PROMPTS[1], PROMPTS[5], PROMPTS[3]]
    requests = [Request(prompts[number % 3], Sampling(temperature=1.2, top_p=1.0, seed=number, max_tokens=3 + number % 11)) for number in range(60)]
    alone = [toy_engine().generate([request], logprobs=True)[0] for request in requests]
    engine = Engine(toy_model(), toy_tokenizer(), max_rows=8)  # so that the samples of a prompt do not fit one group
    engine.decoder = kind(engine.model)
    rows_read: list[int] = []
    engine.model.register_forward_pre_hook(lambda _, given: rows_read.append(len(given[0])) if given[0].shape[1] > 1 else None)
    together = engine.generate(requests, logprobs=True)
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert [answer.stop_reason for answer in together] == [answer.stop_reason for answer in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert sum(rows_read) == 3


def test_the_same_seed_repeats_and_no_seed_does_not() -> None:
    engine = toy_engine()

    def draw(seed: int | None) -> list[int]:
        return engine.generate([Request([3, 4], Sampling(temperature=2.0, top_p=1.0, seed=seed, max_tokens=12))])[0].token_ids

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)


def test_a_stop_id_ends_the_answer_and_names_the_reason() -> None:
    free = toy_engine().generate([Request([3], GREEDY)])[0].token_ids
    place = next(index for index, token in enumerate(free) if index and token not in free[:index])
    engine = Engine(toy_model(), toy_tokenizer(), {free[place]: "end_of_turn"})
    answer = engine.generate([Request([3], GREEDY)])[0]
    assert answer.token_ids == free[: place + 1]
    assert answer.stop_reason == "end_of_turn"
    assert text_of(answer, toy_tokenizer(), engine.stop_ids) == toy_tokenizer().decode(free[:place])


def test_max_tokens_ends_the_answer() -> None:
    answer = toy_engine().generate([Request([3], Sampling(temperature=0, max_tokens=4))])[0]
    assert (len(answer.token_ids), answer.stop_reason) == (4, "max_tokens")


def test_a_full_context_ends_the_answer() -> None:
    answers = toy_engine().generate([Request([3] * length, Sampling(temperature=0, max_tokens=100)) for length in (60, 63)])
    assert [(len(answer.token_ids), answer.stop_reason) for answer in answers] == [(4, "context_full"), (1, "context_full")]


def test_a_stop_string_ends_the_answer_and_is_not_in_it() -> None:
    engine, tokenizer = toy_engine(), toy_tokenizer()
    request = Request([3], Sampling(temperature=0, max_tokens=40))
    text = text_of(engine.generate([request])[0], tokenizer, engine.stop_ids)
    stop = text[10:13]
    assert "\ufffd" not in stop
    assert len(stop) == 3
    answer = engine.generate([Request([3], Sampling(temperature=0, max_tokens=40, stop=(stop,)))])[0]
    assert answer.stop_reason == "stop_string"
    assert text_of(answer, tokenizer, engine.stop_ids) == text[: text.index(stop)]


def test_a_stream_gives_the_text_of_the_answer() -> None:
    engine = toy_engine()
    request = Request([3], Sampling(temperature=1, seed=2, max_tokens=30))
    said = "".join(piece for piece, _ in engine.stream(request))
    assert said == text_of(engine.generate([request])[0], toy_tokenizer(), engine.stop_ids)


def test_an_abandoned_stream_leaves_the_engine_usable_and_cannot_go_on_itself() -> None:
    engine = toy_engine()
    stream = engine.stream(Request([3], GREEDY))
    next(stream)
    whole = engine.generate([Request([3], GREEDY)])[0]
    assert whole.token_ids == toy_engine().generate([Request([3], GREEDY)])[0].token_ids
    with pytest.raises(RuntimeError, match="another request"):
        next(stream)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "no tokens"), ([1] * 64, r"64 tokens, the model's context is 64"), ([330], r"id 330, the model's ids are 0 to 329"), ([-1], "id -1")],
)
def test_a_prompt_that_cannot_be_is_refused_with_its_numbers(prompt: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        toy_engine().generate([Request([3], GREEDY), Request(prompt, GREEDY)])


def test_a_sampling_that_means_nothing_is_refused_before_anything_is_generated() -> None:
    with pytest.raises(SettingsError, match="top_p"):
        toy_engine().generate([Request([3], Sampling(top_p=2.0))])


def test_without_a_tokenizer_there_are_ids_but_no_text() -> None:
    engine = Engine(toy_model(), None)
    with pytest.raises(DataError, match="without a tokenizer"):
        next(engine.stream(Request([3], GREEDY)))
