from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import herdling
from herdling.base.decode import decode
from herdling.checkpoint.huggingface import save_model
from herdling.stages.export import Export
from herdling.stages.registry import StageRun
from herdling.tokenizer.chat_format import chat_format
from tests.generate.toy_model import toy_model, toy_tokenizer


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_an_export_answers_as_its_model_and_carries_its_proof(tmp_path: Path, dtype: str | None) -> None:
    template = chat_format(toy_tokenizer(), "llama3")
    save_model(tmp_path / "model", toy_model(), toy_tokenizer(), template)
    (tmp_path / "export").mkdir()
    run = StageRun(name="export", folder=tmp_path / "export", seed=1, inputs={"@sft": tmp_path / "model"})
    decode(Export, {"model": "@sft", "max_shard_gigabytes": 1e-4, **({"dtype": dtype} if dtype else {})}, "stages.export").run(run)

    proof = json.loads((run.folder / "proof.json").read_text())
    assert proof["logits"]["largest_difference"] <= 1e-4
    assert proof["weights"]["dtype"] == (dtype or "float32")
    assert run.recorded == {"tokenizer": toy_tokenizer().fingerprint, "chat_template": template.fingerprint}
    assert len(list(run.folder.glob("model-*.safetensors"))) > 1
    made, source = herdling.load(run.folder), herdling.load(tmp_path / "model")
    assert made.can_chat
    if dtype is None:
        assert torch.equal(made.logits([1, 2, 3]), source.logits([1, 2, 3]))


def test_a_base_model_is_exported_without_a_template(tmp_path: Path) -> None:
    save_model(tmp_path / "model", toy_model(), toy_tokenizer())
    (tmp_path / "export").mkdir()
    run = StageRun(name="export", folder=tmp_path / "export", seed=1, inputs={"m": tmp_path / "model"})
    Export(model="m").run(run)
    assert json.loads((run.folder / "proof.json").read_text())["chat_template"] is None
    assert not herdling.load(run.folder).can_chat
