import json

import pytest
import torch

from herdling.base.artifact import file_digests
from herdling.base.decode import decode, inputs_of
from herdling.base.errors import DataError
from herdling.base.records import dialog_to_row, read_jsonl, write_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.generate.loaded import load
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.stages.sft import Sft
from herdling.tokenizer import load_tokenizer
from herdling.types import Dialog, Message
from tests.stages.toy_training import MODEL, make_inputs, run_stage, run_stage_killed


@pytest.fixture
def inputs(tmp_path):
    torch.set_num_threads(1)
    folder = make_inputs(tmp_path / "inputs")
    model = Llama(LlamaConfig(**MODEL))
    model.init_weights(0)
    save_model(folder / "model", model, load_tokenizer(folder / "tokenizer"))
    return folder


def digests(folder):
    return {name: entry["sha256"] for name, entry in file_digests(folder).items()}


def test_a_chat_model_comes_out_with_its_ledger(tmp_path, inputs):
    summary = run_stage("sft", inputs, tmp_path / "chat", epochs=12, optimizer={"lr": 1e-2})
    ledger = json.loads((tmp_path / "chat" / "ledger.json").read_text())
    assert (ledger["rows_in"], ledger["kept"]) == (60, 60)
    assert ledger["counts"]["answers"] == ledger["counts"]["ends of turn trained"] == 60
    assert 0 < ledger["counts"]["tokens supervised"] < ledger["counts"]["tokens"]
    validation = [line["bits_per_byte"] for _, line in read_jsonl(tmp_path / "chat" / "metrics.jsonl") if line["split"] == "validation"]
    assert len(validation) == 3
    assert validation[-1] < validation[0]
    assert summary["bits_per_byte"]["answers"] == pytest.approx(validation[-1], abs=1e-4)
    chat = load(tmp_path / "chat")
    assert chat.can_chat
    samples = [row for _, row in read_jsonl(tmp_path / "chat" / "samples.jsonl")]
    assert [row["prompt"] for row in samples] == [f"the item {index}" for index in range(4)]
    assert all(row["completion"].startswith("a key") for row in samples)


def test_dialogs_of_several_artifacts_are_trained_together_whatever_the_order_of_the_table(tmp_path, inputs):
    new = Dialog(id="n", messages=(Message(role="user", content="what is new?"), Message(role="assistant", content="a list")), supervised="last")
    for split in ("train", "validation"):
        write_jsonl(inputs / "more" / "dialogs" / f"{split}.jsonl", [dialog_to_row(new)])
    run_stage("sft", inputs, tmp_path / "one", data={"old": "data", "new": "more"})
    ledger = json.loads((tmp_path / "one" / "ledger.json").read_text())
    assert (ledger["kept"], ledger["counts"]["answers"]) == (61, 61)
    assert next(read_jsonl(tmp_path / "one" / "samples.jsonl"))[1]["prompt"] == "what is new?"
    run_stage("sft", inputs, tmp_path / "two", data={"new": "more", "old": "data"})
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_each_artifact_of_the_table_is_an_edge_of_the_graph():
    made = decode(Sft, {"model": "@base", "data": {"a": "@prepare", "b": "@samples"}}, "stages.sft")
    assert [(field, reference) for field, reference, *_ in inputs_of(made)] == [("model", "@base"), ("data.a", "@prepare"), ("data.b", "@samples")]
    assert decode(Sft, {"model": "@base", "data": "@prepare"}, "stages.sft").data == "@prepare"


def test_killed_at_random_points_it_leaves_the_same_files_bit_by_bit(tmp_path, inputs):
    run_stage("sft", inputs, tmp_path / "straight")
    killed = run_stage_killed("sft", inputs, tmp_path / "killed")
    assert killed >= 2
    assert digests(tmp_path / "killed") == digests(tmp_path / "straight")


def test_too_many_dialogs_that_do_not_fit_are_an_error_and_not_a_smaller_set(tmp_path, inputs):
    with pytest.raises(DataError, match=r"sft: 60 of 60|no row is left"):
        run_stage("sft", inputs, tmp_path / "chat", sequence_length=8)
