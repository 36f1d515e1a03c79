import pytest
from starlette.testclient import TestClient

import herdling
from herdling.base.errors import ModelError
from herdling.checkpoint.huggingface import save_model
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.web.score import MAX_BODY_BYTES, MAX_RESPONSES, score_app
from tests.data.toy_comparisons import toy_format
from tests.stages.toy_training import MODEL

QUESTION, ANSWER = {"role": "user", "content": "the item"}, {"role": "assistant", "content": "a key"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, chat = tmp_path_factory.mktemp("reward"), toy_format()
    llama = Llama(LlamaConfig(**MODEL))
    llama.init_weights(0)
    save_model(folder / "reward", RewardModel.from_llama(llama, seed=0), chat.tokenizer, chat)
    save_model(folder / "chat", llama, chat.tokenizer, chat)
    return herdling.load(folder / "reward"), herdling.load(folder / "chat")


@pytest.fixture(scope="module")
def client(model):
    with TestClient(score_app(model[0], "reward")) as client:
        yield client


def test_a_dialog_has_the_score_that_the_model_gives_it(client, model):
    found = client.post("/v1/score", json={"messages": [QUESTION, ANSWER]})
    assert found.status_code == 200
    assert found.json() == {"object": "score", "model": "reward", "scores": [pytest.approx(model[0].score([QUESTION, ANSWER]), abs=1e-6)]}


def test_responses_to_one_prompt_have_a_score_each_in_their_order(client, model):
    responses = ["a key", "the dict", "the list of the key"]
    found = client.post("/v1/score", json={"model": "reward", "prompt": [QUESTION], "responses": responses})
    expected = [model[0].score([QUESTION, {"role": "assistant", "content": text}]) for text in responses]
    assert found.json()["scores"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, None, "expected messages alone"),
        ({"messages": [QUESTION, ANSWER], "prompt": [QUESTION]}, None, "expected messages alone"),
        ({"prompt": [QUESTION]}, None, "expected messages alone"),
        ({"messages": [QUESTION, ANSWER], "temperature": 1}, "temperature", "unknown field"),
        ({"messages": []}, "messages", "an empty list"),
        ({"messages": "hello"}, "messages", "found str"),
        ({"messages": [QUESTION, {"role": "assistant"}]}, "messages[1]", "expected"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", "'robot'"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "found int"),
        ({"messages": [QUESTION]}, "messages", "expected the answer of the assistant"),
        ({"messages": [ANSWER, QUESTION]}, "messages", "expected user first"),
        ({"messages": [{"role": "user", "content": "the item " * 60}, ANSWER]}, "messages", "the reward model reads 64"),
        ({"prompt": [QUESTION], "responses": []}, "responses", "1 to"),
        ({"prompt": [QUESTION], "responses": ["a"] * (MAX_RESPONSES + 1)}, "responses", "1 to"),
        ({"prompt": [QUESTION], "responses": ["a", None]}, "responses[1]", "expected text"),
        ({"prompt": [QUESTION, ANSWER], "responses": ["a"]}, "responses", "expected user after assistant"),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_its_field(client, body, param, says):
    found = client.post("/v1/score", json=body)
    assert found.status_code == 400
    error = found.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert says in error["message"]


def test_another_model_another_path_no_json_and_too_much_have_their_own_codes(client):
    another = client.post("/v1/score", json={"model": "gpt", "messages": [QUESTION, ANSWER]})
    assert (another.status_code, another.json()["error"]["code"]) == (404, "model_not_found")
    assert client.post("/v1/other", json={}).json()["error"]["type"] == "invalid_request_error"
    assert client.get("/v1/score").status_code == 405
    assert "no JSON" in client.post("/v1/score", content=b"{").json()["error"]["message"]
    assert "expected an object" in client.post("/v1/score", content=b"[]").json()["error"]["message"]
    assert client.post("/v1/score", content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413


def test_a_model_without_a_score_head_is_refused_at_the_start(model):
    with pytest.raises(ModelError, match="has no score head"):
        score_app(model[1], "chat")
