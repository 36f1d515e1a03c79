from __future__ import annotations

from typing import Any

import pytest

from herdling.tokenizer.tool_calls import parse, tool_name


@pytest.mark.parametrize(
    ("text", "tagged", "name", "arguments"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', False, "f", {"a": 1}),
        ('{"type": "function", "name": "f", "parameters": {}}', True, "f", {}),
        ('brave_search.call(query="a, b")', True, "brave_search", {"query": "a, b"}),
        ('wolfram_alpha.call(query="say \\"x\\"", n=3)', True, "wolfram_alpha", {"query": 'say "x"', "n": 3}),
        ("brave_search.call(", True, "code_interpreter", {"code": "brave_search.call("}),
        ("brave_search.call(x)", True, "code_interpreter", {"code": "brave_search.call(x)"}),
        ("import math", True, "code_interpreter", {"code": "import math"}),
    ],
)
def test_a_call_is_read(text: str, tagged: bool, name: str, arguments: dict[str, Any]) -> None:
    call = parse(text, tagged)
    assert call is not None
    assert (call.name, call.arguments) == (name, arguments)


@pytest.mark.parametrize("text", ["", "hello", "4", '{"name": "f"}', '{"name": 1, "parameters": {}}', '{"name": "f", "parameters": {}, "x": 1}', "[1"])
def test_what_is_no_call_stays_text(text: str) -> None:
    assert parse(text, tagged=False) is None


def test_a_tools_name_is_found_in_both_shapes() -> None:
    assert tool_name({"name": "f"}) == tool_name({"type": "function", "function": {"name": "f"}}) == "f"
    assert tool_name({}) == ""
