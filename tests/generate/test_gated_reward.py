"""The gated reward of Llama 2, section 3.2.3: which score counts when, in logits, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import herdling
from herdling.base.errors import DataError, FormatError, LineageError, ModelError
from herdling.checkpoint.huggingface import save_model
from herdling.generate.gated_reward import Reward, RewardModels, gated
from herdling.generate.loaded import LoadedModel
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Dialog
from tests.data.toy_comparisons import WORDS, question, toy_format
from tests.stages.toy_training import MODEL


@pytest.mark.parametrize(
    ("helpfulness", "safety", "tagged", "combined"),
    [
        (2.0, 0.5, False, 2.0),  # sigmoid(0.5) = 0.62 is safe enough: helpfulness counts
        (2.0, 0.5, True, 0.5),  # an adversarial prompt: safety counts, however safe
        (2.0, -1.7, False, 2.0),  # sigmoid(-1.7) = 0.1545, just not unsafe
        (2.0, -1.8, False, -1.8),  # sigmoid(-1.8) = 0.1419, unsafe
        (-3.0, -1.8, False, -1.8),  # the gate looks at safety alone, even where helpfulness is lower
        (-3.0, None, True, -3.0),  # no safety model: helpfulness is all there is
        (60.0, 50.0, True, 50.0),  # beyond what a sigmoid in float64 tells from 1
    ],
)
def test_safety_counts_where_the_prompt_is_tagged_or_the_answer_unsafe(helpfulness: float, safety: float | None, tagged: bool, combined: float) -> None:
    assert gated(helpfulness, safety, tagged) == Reward(helpfulness=helpfulness, safety=safety, combined=combined)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model, two reward models of its tokenizer and template, one of another template, one of another tokenizer."""
    torch.set_num_threads(1)
    folder, own = tmp_path_factory.mktemp("models"), toy_format()
    llama = Llama(LlamaConfig(**MODEL))
    llama.init_weights(0)
    save_model(folder / "chat", llama, own.tokenizer, own)
    other = chat_format(train_byte_level_bpe((word[::-1] for word in [" ".join(WORDS), *WORDS]), 300), "llama3")
    for name, seed, chat in (("helpful", 1, own), ("safe", 2, own), ("template", 1, chat_format(own.tokenizer, "llama3.1")), ("tokenizer", 1, other)):
        model = RewardModel.from_llama(llama, seed=seed)
        with torch.no_grad():
            model.score.weight.mul_(50)  # so that scores reach both sides of the threshold
        save_model(folder / name, model, chat.tokenizer, chat)
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, LoadedModel]:
    return {path.name: herdling.load(path) for path in folder.iterdir()}


def tagged(dialog: Dialog, place: int) -> Dialog:
    messages = list(dialog.messages)
    messages[place] = replace(messages[place], tags=("safety",))
    return replace(dialog, messages=tuple(messages))


def test_scores_are_those_of_the_two_models_and_the_tag_is_that_of_the_last_user_message(models: dict[str, LoadedModel]) -> None:
    plain = question("the item", "a key", "the list", "the dict")
    dialogs = [plain, tagged(plain, 2), tagged(plain, 0)]
    helpful, safe = models["helpful"].score(plain), models["safe"].score(plain)
    rewards = RewardModels(models["helpful"], models["safe"]).score(dialogs)
    assert [reward.helpfulness for reward in rewards] == pytest.approx([helpful] * 3, abs=1e-5)
    assert [reward.safety for reward in rewards] == pytest.approx([safe] * 3, abs=1e-5)
    untagged = safe if 1 / (1 + 2.718281828459045**-safe) < 0.15 else helpful
    assert [reward.combined for reward in rewards] == pytest.approx([untagged, safe, untagged], abs=1e-5)


def test_one_model_alone_is_the_whole_reward(models: dict[str, LoadedModel]) -> None:
    dialog = tagged(question("the item", "a key"), 0)
    (reward,) = RewardModels(models["helpful"]).score([dialog])
    assert (reward.safety, reward.combined) == (None, reward.helpfulness)
    assert RewardModels(models["helpful"]).score([]) == []


def test_models_of_one_tokenizer_and_template_pass_and_others_are_named(models: dict[str, LoadedModel]) -> None:
    RewardModels(models["helpful"], models["safe"]).check(models["chat"])
    with pytest.raises(LineageError, match=r"rewards\.safety: .*/template was trained with the chat template"):
        RewardModels(models["helpful"], models["template"]).check(models["chat"])
    with pytest.raises(LineageError, match=r"rewards\.helpfulness: .*/tokenizer was trained with the tokenizer"):
        RewardModels(models["tokenizer"]).check(models["chat"])
    with pytest.raises(ModelError, match="no score head"):
        RewardModels(models["chat"]).check(models["chat"])


def test_a_score_that_is_no_number_names_the_dialog(folder: Path) -> None:
    broken = herdling.load(folder / "safe")
    with torch.no_grad():
        broken.reward_model.score.weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"rewards\.safety: .* scores the dialog the dict with nan"):
        RewardModels(herdling.load(folder / "helpful"), broken).score([question("the dict", "a key")])


def test_what_cannot_be_read_is_refused_with_the_reason(models: dict[str, LoadedModel]) -> None:
    judges = RewardModels(models["helpful"], models["safe"])
    assert judges.context == 64
    with pytest.raises(DataError, match=r"has \d+ tokens, the reward model reads 64"):
        judges.score([question("the item " * 60, "a key")])
    with pytest.raises(FormatError, match="expected the answer of the assistant"):
        judges.score([question("the item")])
