from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from herdling.base.decode import decode
from herdling.base.errors import LineageError, ModelError, SettingsError
from herdling.checkpoint.huggingface import save_model
from herdling.generate.fingerprint import model_fingerprint
from herdling.generate.generator import LazyModel, PolicyServerConfig, ServerConfig, open_generator
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Dialog, Message, Sampling
from tests.generate.toy_model import toy_model, toy_tokenizer
from tests.generate.toy_server import ToyServer, served

ASKED = Dialog(id="d", messages=(Message(role="user", content="which module has Counter?"),))


def saved(folder: Path, seed: int = 1) -> Path:
    tokenizer = toy_tokenizer()
    save_model(folder, toy_model(seed), tokenizer, chat_format(tokenizer, "llama3.1"))
    return folder


def test_a_model_on_disk_answers_under_its_name_and_fingerprint(tmp_path: Path) -> None:
    model = open_generator("new", str(saved(tmp_path / "model")))
    completion = model.chat_batch([ASKED], Sampling(max_tokens=4, seed=1))[0]
    assert (completion.model, completion.model_fingerprint) == ("new", model_fingerprint(tmp_path / "model"))


def test_a_model_is_loaded_once_even_by_threads_that_ask_at_once(tmp_path: Path) -> None:
    model = LazyModel("new", saved(tmp_path / "model"))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: model.chat_batch([ASKED], Sampling(max_tokens=4, seed=1))[0].message, range(4)))
    assert len(set(answers)) == 1


def test_fingerprints_follow_weights_and_not_names(tmp_path: Path) -> None:
    first, same, other = saved(tmp_path / "a"), saved(tmp_path / "b"), saved(tmp_path / "c", seed=2)
    assert model_fingerprint(first) == model_fingerprint(same) != model_fingerprint(other)


def test_a_place_without_a_model_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        open_generator("new", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="no model folder"):
        open_generator("new", str(tmp_path))
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(LineageError, match="no finished model"):
        open_generator("new", str(tmp_path))


def test_an_address_is_a_server() -> None:
    with served(ToyServer().app) as address:
        assert open_generator("far", f"{address}/v1").chat_batch([ASKED], Sampling())[0].message.content == "WHICH MODULE HAS COUNTER?"


def test_the_key_of_a_server_stands_in_the_environment_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ToyServer()
    with served(server.app) as address:
        config = decode(ServerConfig, {"url": f"{address}/v1", "api_key_env": "TOY_KEY"}, "sampler")
        monkeypatch.delenv("TOY_KEY", raising=False)
        with pytest.raises(SettingsError, match=r"the environment has no TOY_KEY\. Set it: export TOY_KEY="):
            config.open("far")
        monkeypatch.setenv("TOY_KEY", "secret")
        config.open("far").chat_batch([ASKED], Sampling())
    assert {headers["authorization"] for headers in server.headers} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "127.0.0.1:8000"}, "expected the address of a server"),
        ({"url": "http://a/v1", "api_key_env": "sk-1234"}, "is no name of an environment variable"),
        ({"url": "http://a/v1", "timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_a_server_that_cannot_be_is_refused_and_a_key_is_never_repeated(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        decode(ServerConfig, settings, "sampler")
    assert "1234" not in str(caught.value)


def test_the_versions_of_a_policy_are_named_by_its_stage() -> None:
    with pytest.raises(SettingsError, match="versions are named by the stage"):
        decode(PolicyServerConfig, {"server": {"url": "http://a", "weight_version": "1"}, "weights": "/shared"}, "sampler")


def test_naming_a_model_costs_no_torch(tmp_path: Path) -> None:
    path = saved(tmp_path / "model")
    code = f"import sys; from herdling.generate.generator import open_generator; open_generator('new', {str(path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
