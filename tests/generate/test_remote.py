from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from starlette.responses import JSONResponse

from herdling.base.errors import LineageError, RemoteError
from herdling.generate.remote import RemoteModel, connect
from herdling.types import Dialog, Message, Sampling
from tests.generate.toy_server import ToyServer, plain_refusal, refusal, served


def asked(text: str = "hello") -> Dialog:
    return Dialog(id="d", messages=(Message(role="system", content="Be brief."), Message(role="user", content=text)))


@pytest.fixture
def server() -> ToyServer:
    return ToyServer()


@pytest.fixture
def address(server: ToyServer) -> Iterator[str]:
    with served(server.app) as address:
        yield address


def model(address: str, waits: list[float] | None = None, **options: str) -> RemoteModel:
    return connect("big", f"{address}/v1", sleep=(waits if waits is not None else []).append, **options)  # type: ignore[arg-type]


def test_a_dialog_is_answered_by_the_server_s_only_model(server: ToyServer, address: str) -> None:
    completion = model(address).chat_batch([asked()], Sampling(temperature=0.8, max_tokens=9, seed=0, stop=("\n",)))[0]
    assert (completion.message, completion.stop_reason, completion.model) == (Message(role="assistant", content="HELLO"), "end_of_turn", "big")
    assert server.requests == [
        {
            "model": "toy",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
            "temperature": 0.8,
            "top_p": 0.9,
            "max_tokens": 9,
            "stream": False,
            "seed": 0,
            "stop": ["\n"],
        }
    ]


def test_what_is_off_is_not_sent(server: ToyServer, address: str) -> None:
    model(address).chat_batch([asked()], Sampling())
    assert not {"seed", "top_k", "stop"} & set(server.requests[0])


def test_many_dialogs_keep_their_order_and_their_own_sampling(address: str) -> None:
    samplings = [Sampling(temperature=number / 20) for number in range(20)]
    completions = model(address).chat_batch([asked(f"n{number}") for number in range(20)], samplings)
    assert [completion.message.content for completion in completions] == [f"N{number}" for number in range(20)]
    assert [completion.sampling for completion in completions] == samplings


def test_samples_of_one_dialog_are_one_request_and_those_of_others_are_not(server: ToyServer, address: str) -> None:
    dialogs = [asked("a")] * 3 + [asked("b")] * 2 + [asked("a")]
    samplings = [Sampling(temperature=1.0, seed=seed) for seed in range(5)] + [Sampling(temperature=0.5, seed=5)]
    completions = model(address).chat_batch(dialogs, samplings)
    assert [completion.message.content for completion in completions] == ["A", "A", "A", "B", "B", "A"]
    bodies = sorted((body["messages"][-1]["content"], body["seed"], body.get("n")) for body in server.requests)
    assert bodies == [("a", 0, 3), ("a", 5, None), ("b", 3, 2)]
    assert [completion.sampling and completion.sampling.seed for completion in completions] == [0, 0, 0, 3, 3, 5]  # the seed that was sent


def test_greedy_answers_are_asked_one_by_one(server: ToyServer, address: str) -> None:
    model(address).chat_batch([asked("a")] * 2, Sampling(temperature=0.0))
    assert [body.get("n") for body in server.requests] == [None, None]


def test_a_server_that_gives_fewer_samples_is_asked_for_the_others(server: ToyServer, address: str) -> None:
    server.most_choices = 2
    completions = model(address).chat_batch([asked("a")] * 5, [Sampling(temperature=1.0, seed=seed) for seed in range(5)])
    assert len(completions) == 5
    assert [(body["seed"], body.get("n")) for body in server.requests] == [(0, 5), (2, 3), (4, None)]


@pytest.mark.parametrize("told", [{"metadata": {"weight_version": "7"}}, {"system_fingerprint": "fp_7"}])
def test_what_a_server_says_of_its_weights_tags_every_answer(server: ToyServer, address: str, told: dict[str, object]) -> None:
    far = model(address)
    plain = far.chat_batch([asked()], Sampling())[0]
    server.told = told
    first, again = (far.chat_batch([asked()], Sampling())[0] for _ in range(2))
    server.told = {"metadata": {"weight_version": "8"}, "system_fingerprint": "fp_8"}
    other = far.chat_batch([asked()], Sampling())[0]
    assert plain.model_fingerprint == far.fingerprint
    assert first.model_fingerprint == again.model_fingerprint
    assert len({plain.model_fingerprint, first.model_fingerprint, other.model_fingerprint}) == 3


@pytest.mark.parametrize(("told", "found"), [({"metadata": {"weight_version": "v1"}}, "v1"), ({}, r"\(nothing\)")])
def test_a_server_that_has_other_weights_than_it_should_is_refused(server: ToyServer, address: str, told: dict[str, object], found: str) -> None:
    far = connect("big", f"{address}/v1", weight_version="v2")
    server.told = told
    with pytest.raises(LineageError, match=f"says that its weights are {found}, expected v2"):
        far.chat_batch([asked()], Sampling())
    server.told = {"metadata": {"weight_version": "v2"}}
    assert far.chat_batch([asked()], Sampling())[0].message.content == "HELLO"


def test_a_cut_answer_says_so_and_an_empty_one_is_empty(server: ToyServer, address: str) -> None:
    server.finish_reason = "length"
    assert model(address).chat_batch([asked()], Sampling())[0].stop_reason == "max_tokens"
    server.content = "  "
    assert model(address).chat_batch([asked()], Sampling())[0].message.content == ""


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_busy_or_broken_server_is_asked_again_ever_more_slowly(server: ToyServer, address: str, status: int) -> None:
    waits: list[float] = []
    server.failures = [refusal(status), plain_refusal(502)]
    assert model(address, waits).chat_batch([asked()], Sampling())[0].message.content == "HELLO"
    assert waits == [0.5, 1.0]


def test_the_server_s_own_wait_is_kept_up_to_a_bound(server: ToyServer, address: str) -> None:
    waits: list[float] = []
    server.failures = [refusal(429, retry_after="3"), refusal(429, retry_after="9999"), refusal(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")]
    model(address, waits).chat_batch([asked()], Sampling())
    assert waits == [3.0, 20.0, 2.0]


def test_after_the_last_try_the_error_says_what_the_server_said_and_what_to_do(server: ToyServer, address: str) -> None:
    server.failures = [refusal(429, "slots are full")] * 4
    with pytest.raises(RemoteError, match=r"429: slots are full\. It is overloaded: wait, or use fewer annotators at once \(tried 4 times\)"):
        model(address).chat_batch([asked()], Sampling())
    assert len(server.requests) == 4


@pytest.mark.parametrize(("status", "advice"), [(400, "context too long"), (401, "HERDLING_API_KEY"), (404, "Check the address")])
def test_a_refusal_that_time_does_not_mend_is_not_asked_again(server: ToyServer, address: str, status: int, advice: str) -> None:
    server.failures = [refusal(status, "context too long")]
    with pytest.raises(RemoteError, match=advice):
        model(address).chat_batch([asked()], Sampling())
    assert len(server.requests) == 1


def test_a_server_may_forbid_another_try(server: ToyServer, address: str) -> None:
    server.failures = [refusal(503, "draining", x_should_retry="false")]
    with pytest.raises(RemoteError, match="503: draining"):
        model(address).chat_batch([asked()], Sampling())
    assert len(server.requests) == 1


def test_a_flat_error_body_is_read_too(server: ToyServer, address: str) -> None:
    server.failures = [JSONResponse({"object": "error", "message": "no such adapter", "code": 400}, 400)]
    with pytest.raises(RemoteError, match="refused with 400: no such adapter"):
        model(address).chat_batch([asked()], Sampling())


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, {"choices": "none"}, []])
def test_json_that_is_no_completion_is_named(server: ToyServer, address: str, body: object) -> None:
    server.failures = [JSONResponse(body)]
    with pytest.raises(RemoteError, match="no chat completion"):
        model(address).chat_batch([asked()], Sampling())


def test_a_page_instead_of_json_is_named(server: ToyServer, address: str) -> None:
    server.failures = [plain_refusal(200)]
    with pytest.raises(RemoteError, match=r"answered with text/plain.*expected JSON"):
        model(address).chat_batch([asked()], Sampling())


def test_a_filtered_answer_is_an_error_and_not_an_answer(server: ToyServer, address: str) -> None:
    server.finish_reason = "content_filter"
    with pytest.raises(RemoteError, match="withheld"):
        model(address).chat_batch([asked()], Sampling())


def test_a_server_that_is_not_there_is_named_with_its_address() -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        address, waits = f"http://127.0.0.1:{taken.getsockname()[1]}", list[float]()
        with pytest.raises(RemoteError, match=f"{address}/v1/models: cannot be reached .* Start it, or correct the address"):
            model(address, waits)
    assert waits == [0.5, 1.0, 2.0]


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        with pytest.raises(RemoteError, match="did not answer in time"):
            connect("slow", f"http://127.0.0.1:{silent.getsockname()[1]}/v1", sleep=lambda _: None, timeout_seconds=0.1)


def test_no_key_is_needed_and_a_given_one_is_sent(server: ToyServer, address: str) -> None:
    model(address)
    model(address, api_key="secret").chat_batch([asked()], Sampling())
    assert [headers.get("authorization") for headers in server.headers] == [None, "Bearer secret", "Bearer secret"]


def test_one_of_several_models_has_to_be_named() -> None:
    with served(ToyServer("llama-8b", "llama-70b").app) as address:
        with pytest.raises(RemoteError, match=r"has 2 models\. Name one: .*/v1#llama-8b"):
            connect("big", f"{address}/v1")
        with pytest.raises(RemoteError, match=r"no model 'llama-7b' \(did you mean 'llama-\d+b'\?\)"):
            connect("big", f"{address}/v1#llama-7b")
        small, large = connect("a", f"{address}/v1/#llama-8b"), connect("b", f"{address}/v1#llama-70b")
    assert (small.model, large.model) == ("llama-8b", "llama-70b")
    assert small.fingerprint != large.fingerprint


def test_the_same_model_has_the_same_fingerprint_whatever_it_is_called(address: str) -> None:
    assert connect("a", f"{address}/v1").fingerprint == connect("b", f"{address}/v1/").fingerprint
