from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.toy_chat import make_chat


@pytest.fixture(scope="session")
def chat_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model, reward models and dialogs, made once; nobody writes there."""
    return make_chat(tmp_path_factory.mktemp("chat"))
