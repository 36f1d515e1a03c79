from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import herdling
from herdling.base.errors import DataError, FormatError, LineageError, ModelError, TokenizerError
from herdling.checkpoint.huggingface import save_model
from herdling.generate.fingerprint import model_fingerprint
from herdling.generate.loaded import LoadedModel
from herdling.tokenizer.chat_format import FormatName, chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from tests.generate.toy_model import TEXT, toy_model, toy_tokenizer

QUESTION = [{"role": "user", "content": "which module has Counter?"}]


def saved(folder: Path, name: FormatName | None = "llama3.1") -> Path:
    tokenizer = toy_tokenizer("llama2" if name == "llama2" else "llama3")
    save_model(folder, toy_model(), tokenizer, chat_format(tokenizer, name) if name else None)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return herdling.load(saved(tmp_path / "model"))


def test_importing_herdling_brings_no_torch() -> None:
    check = "import sys, herdling; herdling.Sampling(); herdling.load_tokenizer; herdling.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    assert all(getattr(herdling, name) is not None for name in herdling.__all__)
    with pytest.raises(AttributeError, match="lode"):
        getattr(herdling, "lode")  # noqa: B009


def test_logits_keep_the_shape_of_the_ids(model: LoadedModel) -> None:
    rows = torch.randint(0, 330, (2, 9), generator=torch.Generator().manual_seed(0))
    both = model.logits(rows)
    assert (both.shape, both.dtype) == ((2, 9, 330), torch.float32)
    assert torch.allclose(model.logits(rows[0].tolist()), both[0], atol=1e-5)
    assert torch.allclose(model.logits(rows.tolist()), both)
    with torch.no_grad():
        assert torch.allclose(both, model.model.logits(model.model(rows)))


@pytest.mark.parametrize(
    ("ids", "message"), [([], "at least one"), ([1] * 65, "65 ids are more than the model's context of 64"), ([330], "330"), ([[[1]]], "expected")]
)
def test_ids_that_cannot_be_are_refused(model: LoadedModel, ids: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.logits(ids)


def test_a_text_and_its_ids_go_on_alike(model: LoadedModel) -> None:
    text = model.generate("The llama", max_tokens=12, temperature=1.0, seed=4)
    assert text == model.generate(model.tokenizer.encode("The llama", bos=True), max_tokens=12, temperature=1.0, seed=4)
    assert text == model.generate_batch(["fox", "The llama"], max_tokens=12, temperature=1.0, seed=4)[1]
    assert text == "".join(model.stream("The llama", herdling.Sampling(max_tokens=12, temperature=1.0, seed=4)))


def test_a_stop_string_may_be_given_alone(model: LoadedModel) -> None:
    text = model.generate("The llama", max_tokens=30, temperature=0)
    assert model.generate("The llama", max_tokens=30, temperature=0, stop=text[4:6]) == text[: text.index(text[4:6])]


@pytest.mark.parametrize("name", ["llama2", "llama3", "llama3.1"])
def test_a_chat_is_answered_in_the_models_own_format(tmp_path: Path, name: FormatName) -> None:
    model = herdling.load(saved(tmp_path / "model", name))
    answer = model.chat(QUESTION, max_tokens=10, seed=1)
    assert answer.message.role == "assistant"
    assert len(answer.token_ids) == len(answer.token_logprobs) <= 10
    assert answer.logprob == pytest.approx(sum(answer.token_logprobs))
    prompt = model.chat_format.encode(herdling.Dialog(id="x", messages=(herdling.Message(role="user", content=QUESTION[0]["content"]),)), generate=True).ids
    logprobs = torch.log_softmax(model.logits([*prompt, *answer.token_ids]), -1)
    expected = logprobs[len(prompt) - 1 : -1].gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
    assert torch.allclose(torch.tensor(answer.token_logprobs), expected, atol=1e-4)


def test_a_streamed_chat_is_the_chat(model: LoadedModel) -> None:
    sampling = herdling.Sampling(max_tokens=20, seed=3)
    stream = model.stream_chat(QUESTION, sampling)
    said = "".join(stream)
    whole = model.chat(QUESTION, max_tokens=20, seed=3)
    assert replace(stream.completion, model_fingerprint=model.fingerprint) == whole  # a stream does not wait for the digest of the weights
    assert said.strip() == whole.message.content


def test_many_chats_are_answered_as_one_each(model: LoadedModel) -> None:
    dialogs = [[{"role": "user", "content": text}] for text in ("fox?", "is it collections?", "llama")]
    together = model.chat_batch(dialogs, herdling.Sampling(max_tokens=15, seed=2))
    assert [answer.token_ids for answer in together] == [model.chat(dialog, max_tokens=15, seed=2).token_ids for dialog in dialogs]


def test_a_turn_that_ends_says_so(model: LoadedModel) -> None:
    """Make the end-of-turn token the likeliest after everything: its row of the output is what the hidden states agree on."""
    end = model.chat_format.end_of_turn_id
    with torch.no_grad():
        hidden = model.model(torch.tensor([model.chat_format.encode(herdling.Dialog(id="x", messages=(herdling.Message(**QUESTION[0]),)), generate=True).ids]))
        model.model.output_weight[end] = hidden[0, -1] * 100
    answer = model.chat(QUESTION, temperature=0)
    assert (answer.stop_reason, answer.token_ids, answer.message.content) == ("end_of_turn", (end,), "")


@pytest.mark.parametrize(
    ("dialog", "message"),
    [
        ([{"role": "user"}], "message 1 of the dialog"),
        ([{"role": "bot", "content": "hi"}], "role 'bot'"),
        ([{"role": "user", "content": 3}], "type int"),
    ],
)
def test_what_is_no_message_is_refused_by_its_place(model: LoadedModel, dialog: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.chat(dialog)


def test_a_base_model_goes_on_but_does_not_chat(tmp_path: Path) -> None:
    model = herdling.load(saved(tmp_path / "base", None))
    assert model.generate("The", max_tokens=3)
    with pytest.raises(FormatError, match="base model"):
        model.chat(QUESTION)


def test_weights_without_a_tokenizer_give_logits_and_say_what_is_missing(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    for path in folder.rglob("tokenizer*"):
        path.unlink()
    model = herdling.load(folder)
    assert model.logits([1, 2]).shape == (2, 330)
    with pytest.raises(TokenizerError, match="tokenizer="):
        model.generate("hello")
    toy_tokenizer().save(tmp_path / "tokenizer")
    assert herdling.load(folder, tokenizer=tmp_path / "tokenizer").generate("hello", max_tokens=2)


def test_a_tokenizer_that_is_not_the_one_of_the_weights_is_refused(tmp_path: Path) -> None:
    other = train_byte_level_bpe([TEXT[::-1] * 40], 330)
    with pytest.raises(LineageError, match="trained with the tokenizer"):
        herdling.load(saved(tmp_path / "model"), tokenizer=other)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        herdling.load(tmp_path / "nothing")
    (tmp_path / "model.txt").write_text("hello")
    with pytest.raises(ModelError, match="no model file"):
        herdling.load(tmp_path / "model.txt")


def test_a_loaded_model_and_its_answers_bear_the_fingerprint_of_its_weights(tmp_path: Path, model: LoadedModel) -> None:
    assert model.fingerprint == model_fingerprint(tmp_path / "model") == model.chat_batch([QUESTION], herdling.Sampling(max_tokens=2))[0].model_fingerprint
    assert LoadedModel(toy_model()).fingerprint == ""
