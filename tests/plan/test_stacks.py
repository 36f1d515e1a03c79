"""Software by name."""

from __future__ import annotations

import pytest

from herdling.base.errors import SettingsError
from herdling.plan.stacks import STACKS, find_stack


def test_software_is_found_by_name() -> None:
    assert find_stack("LLM_Foundry") is STACKS["llm-foundry"]
    assert find_stack("herdling").loss == "chunked"


def test_unknown_software_gets_the_list() -> None:
    with pytest.raises(SettingsError, match=r"stack 'megatorn' is unknown.*did you mean 'megatron'.*accepted: herdling, llama3, megatron"):
        find_stack("megatorn")
