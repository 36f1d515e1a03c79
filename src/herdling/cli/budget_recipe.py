"""The recipe that a budget comes out as: `assistant.toml` with its sizes replaced, or for the papers' sizes a recipe of data, tokenizer and pre-training."""

from __future__ import annotations

import re
from importlib.resources import files

from herdling.base.errors import SettingsError
from herdling.base.units import format_count
from herdling.plan.budget import Choice

_SECTION = re.compile(r"^\[stages\.pretrain\]$.*?(?=^\[)", re.MULTILINE | re.DOTALL)


WITH_PACKAGES = "{ library = 0.22, docstrings = 0.12, topics = 0.01, packages = 0.65 }"
"""What the dialogs ask about is the standard library, so its text keeps a third."""


def small_recipe(choice: Choice, why: str, *, packages: bool = False) -> str:
    """Return the assistant's recipe with this choice, comments and all. `why` goes on top, a comment; with `packages` their text is read too."""
    text = (files("herdling") / "recipes" / "assistant.toml").read_text(encoding="utf-8")
    settings = settings_of(choice)
    if packages:
        text = text.replace('topics = "starter:topics"\n', 'topics = "starter:topics"\npackages = "starter:packages"\n')
        settings["sources"] = WITH_PACKAGES
    found = _SECTION.search(text)
    if found is None:
        raise SettingsError("recipes/assistant.toml: has no [stages.pretrain], so no budget can be written into it. Install herdling anew")
    section = found[0]
    for name, value in settings.items():
        section, count = re.subn(rf"^{name} = [^#\n]*?(?=\s*(#|$))", f"{name} = {value}", section, flags=re.MULTILINE)
        if not count:
            section = section.replace("[stages.pretrain]\n", f"[stages.pretrain]\n{name} = {value}\n")
    return _comment(why) + text[: found.start()] + section + text[found.end() :]


def large_recipe(choice: Choice, why: str, split: str) -> str:
    """Return a recipe that pre-trains a size on text of one's own; how to split it over GPUs stands in it as a comment."""
    settings = "\n".join(f"{name} = {value}" for name, value in settings_of(choice).items())
    vocabulary = 128_000 if choice.offer.config.vocab_size > 100_000 else 32_000
    return (
        f"{_comment(why)}"
        'name = "budget"\nseed = 1\n\n'
        f"[stages.prepare_data.sources]                # {format_count(choice.tokens)} tokens are wanted: name your text\n"
        'text = "text/"\n\n'
        f'[stages.train_tokenizer]\ndata = "@prepare_data"\nfamily = "llama3"\nvocab_size = {vocabulary}\n\n'
        '[stages.tokenize]\ndata = "@prepare_data"\ntokenizer = "@train_tokenizer"\n\n'
        f'[stages.pretrain]\ntokens = "@tokenize"\ntokenizer = "@train_tokenizer"\n{settings}\n{_comment(split)}'
    )


def settings_of(choice: Choice) -> dict[str, str]:
    """Return the settings of the stage pretrain, as TOML."""
    return {
        "size": f'"{choice.offer.name}"',
        "num_tokens": f'"{format_count(choice.tokens)}"',  # two digits, so exact
        "batch": f'"{choice.batch}@{choice.offer.sequence_length}"',
        "optimizer": f"{{ lr = {choice.lr:g} }}",
    }


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())
