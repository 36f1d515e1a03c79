"""The stages average and average_rewards: a model folder comes out, ranked first if asked to, and a kill changes no byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError
from herdling.base.records import write_jsonl
from herdling.checkpoint.huggingface import load_model, save_model
from herdling.generate.loaded import load
from herdling.stages.average import Average, AverageRewards
from tests.killing import run_killed
from tests.stages.toy_training import stage_run


@pytest.fixture
def inputs(tmp_path: Path, obedient: Path) -> Path:
    """The chat model, one beside it and one spoilt; the same of reward models."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("chat", "reward", "data"):
        (folder / name).symlink_to(obedient / name)
    chat, reward = load(obedient / "chat"), load(obedient / "reward")
    for name, noise in (("near", 0.01), ("spoilt", 1.0)):
        save_model(folder / name, _noisy(chat.model, noise), chat.tokenizer, chat.chat_format)
        save_model(folder / f"reward_{name}", _noisy(reward.reward_model, noise), chat.tokenizer, chat.chat_format)
    return folder


def _noisy(model: Any, scale: float) -> Any:
    chance = torch.Generator().manual_seed(1)
    state = {name: weight + scale * torch.randn(weight.shape, generator=chance) for name, weight in model.state_dict().items()}
    made = type(model)(model.config)
    made.load_state_dict(state)
    return made


def averaged(inputs: Path, folder: Path, models: list[str], **settings: Any) -> dict[str, Any]:
    run = stage_run("average", inputs, folder)
    kind = AverageRewards if models[0].startswith("reward") else Average
    decode(kind, {"models": {name: name for name in models}, **settings}, "stages.average").run(run)
    return run.summary


def test_a_chat_model_comes_out_that_chats(tmp_path: Path, inputs: Path) -> None:
    summary = averaged(inputs, tmp_path / "out", ["chat", "near"], weights={"chat": 3, "near": 1})
    made = load(tmp_path / "out")
    assert made.can_chat
    assert summary["models"] == 2
    for name, weight in made.model.state_dict().items():
        expected = 0.75 * load_model(inputs / "chat").state_dict()[name] + 0.25 * load_model(inputs / "near").state_dict()[name]
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


def test_a_reward_model_comes_out_that_scores(tmp_path: Path, inputs: Path) -> None:
    averaged(inputs, tmp_path / "out", ["reward", "reward_near"])
    dialog = [{"role": "user", "content": "item 3"}, {"role": "assistant", "content": "key 3."}]
    assert isinstance(load(tmp_path / "out").score(dialog), float)  # type: ignore[arg-type]
    assert (Average.output, AverageRewards.output) == ("model", "reward")  # type: ignore[attr-defined]


def test_ranked_models_are_averaged_from_the_best_on_and_the_best_average_is_kept(tmp_path: Path, inputs: Path) -> None:
    summary = averaged(inputs, tmp_path / "out", ["spoilt", "near", "chat"], rank_by="data")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["ranked"][-1] == "spoilt"
    assert set(results["averages"]) == {"1", "2", "3"}
    assert results["averages"]["1"] == min(results["bits_per_byte"].values())
    assert results["averages"][str(results["best_k"])] == min(results["averages"].values())
    assert results["best_k"] < 3  # the spoilt one would spoil the average
    assert summary["models"] == results["best_k"]
    assert summary["bits_per_byte"] == pytest.approx(min(results["averages"].values()), abs=1e-4)


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    averaged(inputs, folder, ["spoilt", "near", "chat"], rank_by="data")
    (folder / "done").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "done"}


def test_a_stage_that_was_killed_comes_to_the_same_bytes(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "killed").mkdir()
    run_killed(_worker, (inputs, tmp_path / "straight"), tmp_path / "straight" / "done", kills=0)
    assert run_killed(_worker, (inputs, tmp_path / "killed"), tmp_path / "killed" / "done", kills=2, longest=0.6) > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")


@pytest.mark.parametrize(
    ("models", "settings", "said"),
    [
        (["chat"], {}, "an average takes two models or more"),
        (["chat", "near"], {"weights": {"chat": 1, "far": 1}}, "weights.far: there is no such model"),
        (["chat", "near"], {"weights": {"chat": 1}}, "weights: near has none"),
    ],
)
def test_settings_that_make_no_average_say_so(tmp_path: Path, inputs: Path, models: list[str], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        averaged(inputs, tmp_path / "out", models, **settings)


def test_without_held_out_dialogs_there_is_nothing_to_rank_by(tmp_path: Path, inputs: Path) -> None:
    write_jsonl(inputs / "empty" / "dialogs" / "validation.jsonl", ())
    with pytest.raises(DataError, match="no held-out dialogs to rank by"):
        averaged(inputs, tmp_path / "out", ["chat", "near"], rank_by="empty")
