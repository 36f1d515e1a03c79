"""The Jinja templates that our model folders carry, so that transformers, vLLM and llama.cpp write a chat as we do; and how to render them.

Written by us, to give the same text as Meta's published formats. `chat_format` encodes chats natively and checks itself against these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from herdling.base.errors import FormatError
from herdling.types import Dialog, Message

# What Llama 3.1 was trained to read before a list of tools: interop constants, like its pre-tokenizer's pattern.
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
TOOLS_PREAMBLE = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
)
BUILT_IN_TOOLS = ("brave_search", "wolfram_alpha", "code_interpreter")
CODE_INTERPRETER = "code_interpreter"

LLAMA2 = """
{%- set system = messages[0].content if messages[0].role == 'system' else none -%}
{%- set turns = messages if system is none else messages[1:] -%}
{%- for turn in turns -%}
    {%- if turn.role != ('assistant' if loop.index0 % 2 else 'user') -%}
        {{- raise_exception('Llama 2 chats go user, assistant, user, ..., after at most one system message') -}}
    {%- endif -%}
    {%- if turn.role == 'assistant' -%}
        {{- ' ' + turn.content.strip() + ' ' + eos_token -}}
    {%- else -%}
        {%- set opening = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if loop.first and system is not none else '' -%}
        {{- bos_token + '[INST] ' + (opening + turn.content).strip() + ' [/INST]' -}}
    {%- endif -%}
{%- endfor -%}
""".strip()

LLAMA3 = """
{{- bos_token -}}
{%- for turn in messages -%}
    {%- if turn.role not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('Llama 3 chats have system, user and assistant messages') -}}
    {%- endif -%}
    {{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\\n\\n' + turn.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
""".strip()

LLAMA3_1 = """
{{- bos_token -}}
{%- set found = namespace(built_in=[], listed=[], custom=[]) -%}
{%- for tool in tools or [] -%}
    {%- set name = (tool.function if tool.function is defined else tool).name -%}
    {%- if name not in BUILT_IN -%}
        {%- set found.custom = found.custom + [tool] -%}
    {%- else -%}
        {%- set found.built_in = found.built_in + [name] -%}
        {%- if name != 'code_interpreter' -%}
            {%- set found.listed = found.listed + [name] -%}
        {%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- set system = messages[0].content | trim if messages[0].role == 'system' else none -%}
{%- set turns = messages if system is none else messages[1:] -%}
{%- if tools or system is not none -%}
    {{- '<|start_header_id|>system<|end_header_id|>\\n\\n' -}}
    {%- if tools -%}
        {{- 'Environment: ipython\\n' -}}
        {%- if found.listed -%}
            {{- 'Tools: ' + found.listed | join(', ') + '\\n' -}}
        {%- endif -%}
        {{- DATES -}}
    {%- endif -%}
    {{- (system or '') + '<|eot_id|>' -}}
{%- endif -%}
{%- for turn in turns -%}
    {%- set role = 'ipython' if turn.role == 'tool' else turn.role -%}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' -}}
    {%- if turn.tool_calls -%}
        {%- if turn.tool_calls | length != 1 -%}
            {{- raise_exception('Llama 3.1 makes one tool call a message') -}}
        {%- endif -%}
        {%- set call = turn.tool_calls[0].function -%}
        {%- if call.name in found.built_in -%}
            {{- '<|python_tag|>' -}}
            {%- if call.name == 'code_interpreter' -%}
                {{- call.arguments.code -}}
            {%- else -%}
                {{- call.name + '.call(' -}}
                {%- for key, value in call.arguments | items -%}
                    {{- key + '=' + value | tojson + ('' if loop.last else ', ') -}}
                {%- endfor -%}
                {{- ')' -}}
            {%- endif -%}
        {%- else -%}
            {{- '{"name": ' + call.name | tojson + ', "parameters": ' + call.arguments | tojson + '}' -}}
        {%- endif -%}
        {{- '<|eom_id|>' if found.built_in else '<|eot_id|>' -}}
    {%- else -%}
        {%- if loop.first and found.custom -%}
            {{- PREAMBLE -}}
            {%- for tool in found.custom -%}
                {{- tool | tojson(indent=4) + '\\n\\n' -}}
            {%- endfor -%}
        {%- endif -%}
        {{- turn.content | trim + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
""".strip()
for _name, _value in (("BUILT_IN", list(BUILT_IN_TOOLS)), ("DATES", DATES), ("PREAMBLE", TOOLS_PREAMBLE)):
    LLAMA3_1 = "{%- set " + _name + " = " + json.dumps(_value) + " -%}\n" + LLAMA3_1

TEMPLATES: Mapping[str, str] = {"llama2": LLAMA2, "llama3": LLAMA3, "llama3.1": LLAMA3_1}


def render(template: str, dialog: Dialog, *, bos: str, eos: str, generate: bool) -> str:
    """Render a chat template as transformers does. Raises `FormatError` with the template's own complaint."""
    try:
        return _compiled(template).render(
            messages=[message_to_row(message) for message in dialog.messages], tools=[dict(tool) for tool in dialog.tools] or None,
            bos_token=bos, eos_token=eos, add_generation_prompt=generate,
        )  # fmt: skip
    except jinja2.TemplateError as error:
        raise FormatError(f"dialog {dialog.id}: the chat template refuses it ({error})") from None


def message_to_row(message: Message) -> dict[str, Any]:
    """Return a message in the form that chat templates read."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        functions = [{"name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls]
        row["tool_calls"] = [{"type": "function", "id": call.id, "function": function} for call, function in zip(message.tool_calls, functions, strict=True)]
    return row


@cache
def _compiled(template: str) -> jinja2.Template:
    # The environment that transformers renders in: sandboxed, blocks trimmed, JSON as it is typed.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
