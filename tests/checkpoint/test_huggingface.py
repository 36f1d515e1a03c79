from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from herdling.base.errors import LineageError, ModelError
from herdling.checkpoint.huggingface import check_tokenizer, load_config, load_model, load_stop_ids, recorded_fingerprints, save_model
from herdling.model.config import RopeScalingConfig
from herdling.tokenizer import Tokenizer, load_tokenizer
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from tests.generate.toy_model import SHAPES, TEXT, toy_config, toy_model, toy_tokenizer


def saved(folder: Path, **changes: Any) -> Path:
    save_model(folder, toy_model(**changes), toy_tokenizer())
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = {name: weight.clone() for name, weight in load_file(folder / "model.safetensors").items()}
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_saved_model_loads_bitwise_equal(tmp_path: Path, shape: str) -> None:
    model = toy_model(**SHAPES[shape])
    save_model(tmp_path / "model", model, toy_tokenizer())
    loaded = load_model(tmp_path / "model")
    assert loaded.config == model.config
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name


def test_shards_hold_what_one_file_holds(tmp_path: Path) -> None:
    model = toy_model()
    save_model(tmp_path, model, toy_tokenizer(), max_shard_size=60_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert index["metadata"]["total_size"] == 4 * model.config.num_parameters()
    assert all(torch.equal(weight, load_model(tmp_path).state_dict()[name]) for name, weight in model.state_dict().items())


def test_saving_again_leaves_no_weights_of_the_model_before(tmp_path: Path) -> None:
    save_model(tmp_path, toy_model(), toy_tokenizer(), max_shard_size=60_000)
    (tmp_path / "metrics.jsonl").write_text("kept")
    save_model(tmp_path, toy_model(seed=2), toy_tokenizer())
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]
    assert (tmp_path / "metrics.jsonl").read_text() == "kept"


def test_a_save_that_fails_leaves_the_model_before(tmp_path: Path) -> None:
    class Unsaveable:
        vocab_size, fingerprint, bos_id, eos_id, pad_id = 330, "x", 1, 2, -1

        def save(self, folder: Path, chat: Any = None) -> None:
            raise RuntimeError("cannot")

    before = saved(tmp_path)
    weights = (before / "model.safetensors").read_bytes()
    with pytest.raises(RuntimeError, match="cannot"):
        save_model(tmp_path, toy_model(seed=2), cast(Tokenizer, Unsaveable()))
    assert (before / "model.safetensors").read_bytes() == weights
    assert not list(tmp_path.glob(".partial*"))
    load_model(tmp_path)


def test_the_type_of_the_weights_can_change_on_the_way_in_and_out(tmp_path: Path) -> None:
    save_model(tmp_path, toy_model(), toy_tokenizer(), dtype=torch.bfloat16)
    assert load_model(tmp_path).output_weight.dtype == torch.bfloat16
    assert load_model(tmp_path, dtype=torch.float32).output_weight.dtype == torch.float32
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_model_with_fewer_rows_than_the_tokenizer_has_ids_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="330 ids, the model only 329 rows"):
        save_model(tmp_path, toy_model(vocab_size=329), toy_tokenizer())


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_gives_the_same_logits(tmp_path: Path, shape: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = saved(tmp_path, **SHAPES[shape])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.randint(0, 330, (2, 40), generator=torch.Generator().manual_seed(0))
    ours = load_model(folder)
    with torch.no_grad():
        assert torch.allclose(ours.logits(ours(ids)), theirs(ids).logits, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_transformers_saves_is_read(tmp_path: Path, shape: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(saved(tmp_path / "ours", **SHAPES[shape]))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="60KB")
    model = toy_model(**SHAPES[shape])
    loaded = load_model(tmp_path / "theirs")
    assert loaded.config == model.config
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())


def test_the_rope_of_transformers_4_and_5_is_read_alike(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    expected = toy_config(rope_theta=5e5, rope_scaling=RopeScalingConfig(**scaling))
    folder = saved(tmp_path)
    five = {"rope_theta": None, "rope_scaling": None, "rope_parameters": {**scaling, "rope_theta": 5e5, "rope_type": "llama3"}}
    four = {"rope_theta": 5e5, "rope_scaling": {**scaling, "rope_type": "llama3"}, "rope_parameters": None}
    for spelling in (five, four):
        edit_config(folder, **spelling)
        assert load_config(folder) == expected


def test_absent_fields_mean_what_transformers_means(tmp_path: Path) -> None:
    sizes = {"vocab_size": 10, "hidden_size": 32, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    config = load_config(tmp_path)
    assert (config.num_key_value_heads, config.head_dim, config.rope_theta, config.rms_norm_eps) == (4, 8, 10_000.0, 1e-6)
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (2048, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type is 'yarn'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": "48"}, "hidden_size: found '48', expected a whole number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_a_config_that_changes_the_mathematics_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = saved(tmp_path)
    edit_config(folder, **change)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_missing_unexpected_and_misshaped_weights_are_named(tmp_path: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        del weights["model.norm.weight"]
        weights["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(48)
        weights["lm_head.weight"] = torch.zeros(330, 47)

    folder = saved(tmp_path)
    edit_weights(folder, change)
    with pytest.raises(ModelError) as error:
        load_model(folder)
    for part in ("missing: model.norm.weight", "unexpected: model.layers.0.self_attn.q_proj.bias", "lm_head.weight is (330, 47), expected (330, 48)"):
        assert part in str(error.value)


def test_a_tied_model_may_repeat_its_embedding_but_not_contradict_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, tie_word_embeddings=True)
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    load_model(folder)
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"] + 1}))
    with pytest.raises(ModelError, match="another matrix"):
        load_model(folder)


def test_frequencies_that_old_folders_carry_are_passed_over(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    before = load_model(folder).state_dict()
    edit_weights(folder, lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}))
    after = load_model(folder).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_damage_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:5000])
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: is damaged"):
        load_model(folder)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        load_model(tmp_path)
    save_model(tmp_path, toy_model(), toy_tokenizer(), max_shard_size=60_000)
    next(iter(sorted(tmp_path.glob("model-*")))).unlink()
    with pytest.raises(ModelError, match="model-00001-of"):
        load_model(tmp_path)
    for path in tmp_path.glob("model*"):
        path.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        load_model(tmp_path)


def test_generation_settings_stop_at_every_id_that_ends_an_answer(tmp_path: Path) -> None:
    tokenizer = toy_tokenizer()
    template = chat_format(tokenizer, "llama3.1")
    save_model(tmp_path, toy_model(), tokenizer, template)
    content = json.loads((tmp_path / "generation_config.json").read_text())
    special = tokenizer.special_ids
    assert content["eos_token_id"] == [special["<|end_of_text|>"], special["<|eom_id|>"], special["<|eot_id|>"]] == list(load_stop_ids(tmp_path))
    assert (content["temperature"], content["top_p"], content["bos_token_id"]) == (0.6, 0.9, special["<|begin_of_text|>"])
    assert content["pad_token_id"] == tokenizer.pad_id not in content["eos_token_id"]


def test_weights_know_their_tokenizer_and_template(tmp_path: Path) -> None:
    template = chat_format(toy_tokenizer(), "llama3")
    save_model(tmp_path, toy_model(), toy_tokenizer(), template)
    assert recorded_fingerprints(tmp_path) == {"tokenizer": toy_tokenizer().fingerprint, "chat_template": template.fingerprint}
    check_tokenizer(tmp_path, load_tokenizer(tmp_path))


def test_another_tokenizer_beside_the_weights_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    other = train_byte_level_bpe([TEXT[::-1] * 40], 330)
    other.save(tmp_path / "other")
    shutil.copytree(tmp_path / "other", folder, dirs_exist_ok=True)
    with pytest.raises(LineageError, match="trained with the tokenizer"):
        check_tokenizer(folder, load_tokenizer(folder))


def test_without_a_record_ids_must_fit_the_config(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    edit_weights(folder, lambda weights: None)  # written without our header
    assert recorded_fingerprints(folder) == {}
    check_tokenizer(folder, toy_tokenizer())
    edit_config(folder, bos_token_id=7)
    with pytest.raises(LineageError, match="begins texts with id 7"):
        check_tokenizer(folder, toy_tokenizer())
    edit_config(folder, vocab_size=300)
    with pytest.raises(LineageError, match="330 ids, the weights only 300 rows"):
        check_tokenizer(folder, toy_tokenizer())
