import pytest
import torch

import herdling
from herdling.base.errors import DataError, FormatError, ModelError
from herdling.checkpoint.huggingface import load_model, load_reward_model, save_model
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from tests.data.toy_comparisons import question, toy_format
from tests.stages.toy_training import MODEL


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A chat model and a reward model."""
    folder, chat = tmp_path_factory.mktemp("models"), toy_format()
    llama = Llama(LlamaConfig(**MODEL))
    llama.init_weights(0)
    save_model(folder / "chat", llama, chat.tokenizer, chat)
    reward = RewardModel.from_llama(llama, seed=0)
    save_model(folder / "reward", reward, chat.tokenizer, chat)
    return folder


DIALOGS = [
    question("the item", "a key"),
    question("the dict", "the value for each item"),
    question("the item", "the string"),
    question("the item", "a key", "the list", "an item"),
    question("the item", "the number of the list"),
]


def test_a_score_is_the_value_at_the_last_token_of_the_dialog(folders):
    model = herdling.load(folders / "reward")
    assert all(toy_format().encode(dialog).ids[-1] == toy_format().end_of_turn_id for dialog in DIALOGS)
    with torch.no_grad():
        expected = [model.reward_model(torch.tensor([toy_format().encode(dialog).ids]))[0, -1].item() for dialog in DIALOGS]
    assert model.score_batch(DIALOGS) == pytest.approx(expected, abs=1e-5)
    assert model.score(DIALOGS[3]) == pytest.approx(expected[3], abs=1e-5)
    plain = [{"role": message.role, "content": message.content} for message in DIALOGS[0].messages]
    assert model.score(plain) == pytest.approx(expected[0], abs=1e-5)
    assert model.score_batch([]) == []


def test_a_score_does_not_depend_on_what_is_scored_beside_it(folders):
    model = herdling.load(folders / "reward")
    together = model.score_batch(DIALOGS)
    assert model.score_batch(DIALOGS[::-1])[::-1] == pytest.approx(together, abs=1e-6)
    assert [model.score(dialog) for dialog in DIALOGS] == pytest.approx(together, abs=1e-6)


def test_what_the_model_cannot_read_is_refused_with_the_reason(folders):
    model = herdling.load(folders / "reward")
    with pytest.raises(DataError, match=r"has \d+ tokens, the reward model reads 64"):
        model.score(question("the item " * 60, "a key"))
    with pytest.raises(FormatError, match="expected the answer of the assistant"):
        model.score(question("the item"))


def test_a_chat_model_scores_nothing_and_a_reward_model_writes_nothing(folders):
    with pytest.raises(ModelError, match="has no score head"):
        herdling.load(folders / "chat").score(DIALOGS[0])
    reward = herdling.load(folders / "reward")
    for call in (lambda: reward.generate("the"), lambda: reward.chat([{"role": "user", "content": "the item"}]), lambda: reward.logits([1])):
        with pytest.raises(ModelError, match="is a reward model"):
            call()
    with pytest.raises(ModelError, match="is a reward model"):
        load_model(folders / "reward")
    with pytest.raises(ModelError, match="is no reward model"):
        load_reward_model(folders / "chat")
