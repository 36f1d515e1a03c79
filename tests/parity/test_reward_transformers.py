"""A reward folder of ours in transformers: the same scores, whatever the padding, and from texts alone."""

import json

import pytest
import torch

import herdling
from herdling.checkpoint.huggingface import load_reward_model, save_model
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece
from tests.data.toy_comparisons import WORDS, question
from tests.stages.toy_training import MODEL

transformers = pytest.importorskip("transformers")

DIALOGS = [question("the item", "a key"), question("the item", "the value for each number"), question("the dict", "a list", "the key", "an item of the list")]
TRAINERS = {"llama2": train_sentencepiece, "llama3": train_byte_level_bpe}


@pytest.fixture(scope="module", params=["llama2", "llama3"])
def saved(request, tmp_path_factory):
    """(folder, our scores) of a reward model of one family. Llama 2 has no padding token; in Llama 3 the end of a turn is what transformers calls eos."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = TRAINERS[request.param](iter([" ".join(WORDS), *WORDS] * 20), 300)
    llama = Llama(
        LlamaConfig(**{**MODEL, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 128, "tie_word_embeddings": request.param == "llama3"})
    )
    llama.init_weights(0)
    reward = RewardModel.from_llama(llama, seed=0)
    with torch.no_grad():
        reward.score.weight.mul_(10)
    save_model(folder, reward, tokenizer, chat_format(tokenizer))
    return folder, herdling.load(folder).score_batch(DIALOGS)


def their_model(folder):
    model, told = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def test_transformers_gives_the_same_scores_from_texts_alone(saved):
    folder, ours = saved
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in dialog.messages], tokenize=False) for dialog in DIALOGS]
    together = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    together.pop("token_type_ids", None)
    model = their_model(folder)
    with torch.no_grad():
        assert model(**together).logits[:, 0].tolist() == pytest.approx(ours, abs=1e-5)
        for text, score in zip(texts, ours, strict=True):
            alone = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            assert model(alone).logits.item() == pytest.approx(score, abs=1e-5)


def test_padding_is_never_the_token_that_ends_a_turn(saved):
    folder, ours = saved
    config = json.loads((folder / "config.json").read_text())
    ends = config["eos_token_id"]
    assert config["pad_token_id"] not in (ends if isinstance(ends, list) else [ends])
    config["pad_token_id"] = chat_format(herdling.load_tokenizer(folder)).end_of_turn_id
    (folder / "config.json").write_text(json.dumps(config))  # what a folder without care says: the score would be read one token early
    ids = torch.tensor([chat_format(herdling.load_tokenizer(folder)).encode(DIALOGS[0]).ids])
    with torch.no_grad():
        assert abs(their_model(folder)(ids).logits.item() - ours[0]) > 1e-3


def test_a_reward_model_saved_by_transformers_comes_back(saved, tmp_path):
    folder, _ = saved
    model = their_model(folder)
    model.save_pretrained(tmp_path)
    ours = load_reward_model(tmp_path)
    assert torch.equal(ours.score.weight, model.score.weight)
