from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from herdling.base.errors import ModelError
from herdling.checkpoint.huggingface import save_model
from herdling.checkpoint.proof import LOGITS_TOLERANCE, prove_folder
from herdling.tokenizer.chat_format import chat_format
from tests.generate.toy_model import toy_model, toy_tokenizer

TEMPLATE = chat_format(toy_tokenizer(), "llama3.1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_as_saved_is_proved_with_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    model = toy_model()
    save_model(tmp_path, model, toy_tokenizer(), TEMPLATE, dtype=dtype)
    proof = prove_folder(tmp_path, model, toy_tokenizer(), TEMPLATE)
    assert proof["logits"]["largest_difference"] <= LOGITS_TOLERANCE
    assert (proof["weights"]["logits_moved_by_rounding"] > 0.01) == (dtype == torch.bfloat16)
    assert proof["tokenizer"]["differences"] == proof["chat_template"]["differences"] == 0


def test_one_changed_weight_is_found(tmp_path: Path) -> None:
    model = toy_model()
    save_model(tmp_path, model, toy_tokenizer(), TEMPLATE)
    weights = {name: weight.clone() for name, weight in load_file(tmp_path / "model.safetensors").items()}
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] += 0.01
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 weights are not those .* model\.layers\.1\.mlp\.up_proj\.weight"):
        prove_folder(tmp_path, model, toy_tokenizer(), TEMPLATE)


def test_a_changed_config_is_found_though_all_readers_agree_on_it(tmp_path: Path) -> None:
    model = toy_model()
    save_model(tmp_path, model, toy_tokenizer(), TEMPLATE)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-2}))
    with pytest.raises(ModelError, match=r"rms_norm_eps=0\.01"):
        prove_folder(tmp_path, model, toy_tokenizer(), TEMPLATE)


def test_a_changed_chat_template_is_found(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = toy_model()
    save_model(tmp_path, model, toy_tokenizer(), TEMPLATE)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace("<|start_header_id|>", "<|python_tag|>"))
    with pytest.raises(ModelError, match="transformers writes dialog 0"):
        prove_folder(tmp_path, model, toy_tokenizer(), TEMPLATE)
