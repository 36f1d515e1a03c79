"""A policy sampled by a server: always by the weights of this moment, in ids with their log-probabilities, and nothing of other weights is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.errors import LineageError, RemoteError
from herdling.checkpoint.huggingface import save_model
from herdling.generate.engine import Engine, Request
from herdling.generate.generator import PolicyServerConfig, ServerConfig
from herdling.generate.policy_server import PolicyServer
from herdling.model.transformer import Llama
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Sampling, StopReason
from tests.generate.toy_model import toy_model, toy_tokenizer
from tests.generate.toy_policy_server import ToyPolicyServer
from tests.generate.toy_server import refusal, served

REQUESTS = [Request([1 + number, 2, 3], Sampling(temperature=1.0, top_p=1.0, max_tokens=6, seed=number)) for number in range(5)]


@pytest.fixture
def toy() -> ToyPolicyServer:
    return ToyPolicyServer()


@pytest.fixture
def address(toy: ToyPolicyServer) -> Iterator[str]:
    with served(toy.app) as address:
        yield address


class Policy:
    """A model that may be moved, and the server that samples it."""

    def __init__(self, address: str, folder: Path, **server: Any) -> None:
        tokenizer = toy_tokenizer()
        chat = chat_format(tokenizer, "llama3.1")
        self.model: Llama = toy_model(1)
        self.number = 0
        self.stop_ids: dict[int, StopReason] = {chat.end_of_turn_id: "end_of_turn", tokenizer.eos_id: "end_of_text"}
        self.server = PolicyServer(
            PolicyServerConfig(server=ServerConfig(url=address, **server), weights=str(folder)),
            save=lambda path: save_model(path, self.model, tokenizer, chat),
            version=lambda: f"{self.number:064d}"[::-1],
            stop_ids=self.stop_ids,
        )

    def move(self) -> None:
        """Change the weights."""
        self.number += 1
        with torch.no_grad():
            self.model.output_weight.mul_(-1.0)

    def here(self) -> list[tuple[list[int], list[float], StopReason | None]]:
        answers = Engine(self.model, None, self.stop_ids, max_rows=64).generate(REQUESTS, logprobs=True)
        return [(answer.token_ids, answer.logprobs, answer.stop_reason) for answer in answers]

    def there(self) -> list[tuple[list[int], list[float], StopReason | None]]:
        return [(answer.token_ids, answer.logprobs, answer.stop_reason) for answer in self.server.generate(REQUESTS)]


def test_the_server_says_what_this_process_would_after_every_move_of_the_weights(tmp_path: Path, toy: ToyPolicyServer, address: str) -> None:
    policy = Policy(address, tmp_path / "weights")
    first = policy.there()
    assert first == policy.here() == policy.there()
    assert len(toy.loaded) == 1  # nothing moved: nothing is loaded again
    policy.move()
    assert policy.there() == policy.here() != first
    assert len(toy.loaded) == 2
    assert [path.name[:9] for path in (tmp_path / "weights").iterdir()] == ["policy-1" + "0"]  # the old ones are gone
    policy.server.forget()
    assert list((tmp_path / "weights").iterdir()) == []


def test_many_prompts_are_several_requests_in_one_order(tmp_path: Path, toy: ToyPolicyServer, address: str) -> None:
    policy = Policy(address, tmp_path)
    many = [Request([1 + number % 9, 2], Sampling(temperature=1.0, top_p=1.0, max_tokens=3, seed=number)) for number in range(150)]
    answers = policy.server.generate(many)
    assert [answer.request for answer in answers] == many
    assert toy.num_asked == 3


def test_stale_answers_are_refused_and_the_next_run_loads_the_weights_again(tmp_path: Path, toy: ToyPolicyServer, address: str) -> None:
    policy = Policy(address, tmp_path)
    policy.there()
    toy.version = "default"  # as after a start of the server
    with pytest.raises(LineageError, match=r"came from the weights default, expected .*: stale, so nothing is learned from it\. Was the server started anew"):
        policy.there()
    assert Policy(address, tmp_path).there() == policy.here()


def test_a_busy_server_is_asked_again_and_one_that_refuses_is_named(
    tmp_path: Path, toy: ToyPolicyServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", "secret")
    policy = Policy(address, tmp_path, api_key_env="TOY_KEY")
    toy.failures = [refusal(503, retry_after="0")]
    assert policy.there() == policy.here()
    assert {headers["authorization"] for headers in toy.headers} == {"Bearer secret"}
    toy.failures = [refusal(400, "out of memory")]
    with pytest.raises(RemoteError, match="refused with 400: out of memory"):
        policy.there()


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ({"output_token_logprobs": None}, "without meta_info.output_token_logprobs"),
        ({"finish_reason": {"type": "abort"}, "output_token_logprobs": [[-1.0, 3, None]]}, "an answer ended by 'abort'"),
        ({"weight_version": None}, "from the weights (unknown)"),
    ],
)
def test_what_ppo_needs_and_an_answer_lacks_is_named(tmp_path: Path, toy: ToyPolicyServer, address: str, says: dict[str, Any], said: str) -> None:
    toy.says = says
    with pytest.raises((RemoteError, LineageError)) as caught:
        Policy(address, tmp_path).there()
    assert said in str(caught.value)


def test_weights_that_the_server_cannot_load_end_it(tmp_path: Path, address: str) -> None:
    policy = Policy(address, tmp_path)
    policy.server._save = lambda path: None
    with pytest.raises(RemoteError, match="no such model"):
        policy.there()
