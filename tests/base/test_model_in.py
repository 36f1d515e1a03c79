from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.artifact import model_in, write_json_atomic
from herdling.base.errors import LineageError


def make(folder: Path, output: str, finished: str, chat_template: str = "") -> Path:
    folder.mkdir(parents=True)
    write_json_atomic(folder / "manifest.json", {"format": 1, "output": output, "finished": finished, "chat_template": chat_template})
    return folder


def test_a_run_means_its_newest_model_that_can_chat(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "recipe.json", {})
    make(tmp_path / "sft", "model", "2026-01-01", "t")
    wanted = make(tmp_path / "export", "export", "2026-01-02", "t")
    make(tmp_path / "pretrain", "model", "2026-01-03")
    make(tmp_path / "report", "report", "2026-01-04")
    assert model_in(tmp_path) == wanted
    assert model_in(wanted) == wanted


def test_a_run_without_a_model_says_so(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "recipe.json", {})
    with pytest.raises(LineageError, match="holds no finished model yet"):
        model_in(tmp_path)
