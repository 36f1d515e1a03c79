"""herdling raises a Llama: from raw text to a chat model, as the three Llama papers tell it.

    import herdling
    model = herdling.load("runs/quickstart")      # any model folder, or a run's
    model.generate("import os", temperature=0)
    model.chat([{"role": "user", "content": "Which module has Counter?"}]).message.content
    herdling.load_tokenizer("runs/quickstart/train_tokenizer").encode("hello")
    herdling.run("recipes/quickstart.toml")

Importing costs milliseconds: torch comes with the first model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from herdling.types import Batch, Comparison, Completion, Dialog, Document, Message, Question, Sampling, Scores, ToolCall

if TYPE_CHECKING:
    from herdling.generate.loaded import LoadedModel, load
    from herdling.recipe import run
    from herdling.tokenizer import load_tokenizer

__version__ = "0.1.0"

__all__ = [
    "Batch", "Comparison", "Completion", "Dialog", "Document", "LoadedModel", "Message", "Question", "Sampling", "Scores", "ToolCall",
    "__version__", "load", "load_tokenizer", "run",
]  # fmt: skip

_LAZY = {"load": "herdling.generate.loaded", "LoadedModel": "herdling.generate.loaded", "load_tokenizer": "herdling.tokenizer", "run": "herdling.recipe"}


def __getattr__(name: str) -> Any:
    """Import what needs more than plain values when it is first asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'herdling' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
