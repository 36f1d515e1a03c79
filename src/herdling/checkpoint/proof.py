"""Proof that a model folder is what it should be: read back by another program, it gives the same logits, token ids and chat text.

Reads the folder with transformers where that is installed, else with our own readers (which still catches a wrong file, not a shared misreading). Costs two
more models in memory while it runs. Does not judge the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import tokenizers
import torch
from torch import Tensor

from herdling.base.errors import FormatError, ModelError
from herdling.base.seeds import stream
from herdling.checkpoint.huggingface import load_model
from herdling.model.transformer import Llama
from herdling.tokenizer import Tokenizer, load_tokenizer
from herdling.tokenizer.chat_format import ChatFormat
from herdling.types import Dialog, Message

Read = TypeVar("Read")

LOGITS_TOLERANCE = 1e-4
"""Largest absolute difference of a logit in float32 that rounding alone may make between two implementations."""

_TEXTS = (
    "Once upon a time, there was a little llama.",
    "def dedent(text: str) -> str:\n    return textwrap.dedent(text)  # 1 + 23 = 24\n",
    "  two spaces, a\ttab, and numbers: 3.14159, 2024, 1,000,000",
    "naïve café, Grüße, Привет, 你好, 🦙",
    "It's what they'll say: \"quoted\"!\n\n\nEnd.",
)
_DIALOGS = (
    (Message(role="user", content="Which module has Counter?"),),
    (
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is 2 + 3?"),
        Message(role="assistant", content="5"),
        Message(role="user", content="And 40 more?"),
    ),
)


def prove_folder(folder: Path, model: Llama, tokenizer: Tokenizer, chat_format: ChatFormat | None) -> dict[str, Any]:
    """Read a folder back and compare with what was saved; return the numbers.

    `model` is the one that the folder was made of. A folder of another type (bfloat16) is compared with its own weights in float32, and what the rounding of
    the weights did to the logits is told beside.

    Raises:
        ModelError: something differs by more than rounding; says what, and by how much.
    """
    reader = "transformers" if find_spec("transformers") else "herdling"
    proof: dict[str, Any] = {"read_by": f"{reader} {version(reader)}" if reader == "transformers" else "herdling, anew (transformers is not installed)"}
    prompts = _prompts(model, tokenizer)
    reloaded = load_model(folder, dtype=torch.float32)
    if reloaded.config != model.config:  # two readers of one wrong config agree with each other
        raise ModelError(f"{folder}: its config is {reloaded.config}, the model's is {model.config}")
    ours = _logits_of(reloaded, prompts)
    theirs = _transformers_logits(folder, prompts) if reader == "transformers" else _logits_of(load_model(folder, dtype=torch.float32), prompts)
    proof["logits"] = _compare(folder, ours, theirs) | {"prompts": len(prompts), "tokens": sum(map(len, prompts))}
    proof["weights"] = _compare_weights(folder, model, reloaded, prompts, ours)
    proof["tokenizer"] = _prove_tokenizer(folder, tokenizer, reader)
    proof["chat_template"] = _prove_chat(folder, tokenizer, chat_format, reader)
    return proof


def _prompts(model: Llama, tokenizer: Tokenizer) -> list[list[int]]:
    """Return ids to compare logits on: texts, and random ids up to a length of 128."""
    context = model.config.max_position_embeddings
    chance = stream(0, "proof")
    lengths = [1, 2, min(31, context), min(128, context)]
    drawn = [chance.integers(0, model.config.vocab_size, size=length).tolist() for length in lengths]
    return [*drawn, *(tokenizer.encode(text, bos=True)[:context] for text in _TEXTS)]


@torch.inference_mode()
def _logits_of(model: Llama, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    device = model.output_weight.device
    return [model.logits(model(torch.tensor([prompt], device=device)))[0].cpu() for prompt in prompts]


def _transformers_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    def read() -> list[Tensor]:
        from transformers import AutoModelForCausalLM

        theirs: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
        with torch.inference_mode():
            return [theirs.eval()(torch.tensor([prompt])).logits[0].float() for prompt in prompts]

    return _quietly(read)


def _quietly(read: Callable[[], Read]) -> Read:
    """Call into transformers without its bars and warnings, which say nothing about the folder."""
    logging: Any = import_module("transformers.utils.logging")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def _largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(ours, theirs, strict=True))


def _compare(folder: Path, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> dict[str, Any]:
    difference = _largest_difference(ours, theirs)
    # Not a number compares as False: written so that it fails too.
    if not difference <= LOGITS_TOLERANCE:
        raise ModelError(f"{folder}: read back, its logits differ by {difference:.2e}, more than the {LOGITS_TOLERANCE:.0e} of rounding")
    return {"largest_difference": difference, "tolerance": LOGITS_TOLERANCE}


def _compare_weights(folder: Path, model: Llama, reloaded: Llama, prompts: Sequence[Sequence[int]], ours: Sequence[Tensor]) -> dict[str, Any]:
    """Compare the folder's weights with the model it was made of: equal, or rounded to a shorter type and no further."""
    rounded = load_model(folder)
    kind = rounded.output_weight.dtype
    saved, made_of = rounded.state_dict(), model.state_dict()
    different = [name for name, weight in made_of.items() if not torch.equal(weight.to("cpu", kind), saved[name])]
    if different:
        raise ModelError(f"{folder}: {len(different)} weights are not those of the model it was made of, such as {different[0]}")
    exact = model if model.output_weight.dtype == torch.float32 else None
    moved = _largest_difference(_logits_of(exact, prompts), ours) if exact is not None else 0.0
    return {"dtype": str(kind).removeprefix("torch."), "number": len(saved), "logits_moved_by_rounding": moved}


def _prove_tokenizer(folder: Path, tokenizer: Tokenizer, reader: str) -> dict[str, Any]:
    if load_tokenizer(folder).fingerprint != tokenizer.fingerprint:
        raise ModelError(f"{folder}: its tokenizer, read back, is another one")
    if reader == "transformers":
        theirs = _transformers_tokenizer(folder)
        encode: Callable[[str], list[int]] = lambda text: list(theirs.encode(text, add_special_tokens=False))  # noqa: E731
    else:
        plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        encode = lambda text: list(plain.encode(text, add_special_tokens=False).ids)  # noqa: E731
    for text in _TEXTS:
        if encode(text) != tokenizer.encode(text):
            raise ModelError(f"{folder}: {text!r} has the ids {encode(text)} in {reader}, ours are {tokenizer.encode(text)}")
    return {"texts": len(_TEXTS), "tokens": sum(len(tokenizer.encode(text)) for text in _TEXTS), "differences": 0}


def _transformers_tokenizer(folder: Path) -> Any:
    def read() -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    return _quietly(read)


def _prove_chat(folder: Path, tokenizer: Tokenizer, chat_format: ChatFormat | None, reader: str) -> dict[str, Any] | None:
    """Render dialogs with the folder's template and compare their ids with ours. None for a base model."""
    if chat_format is None:
        return None
    theirs = _transformers_tokenizer(folder) if reader == "transformers" else None
    for number, messages in enumerate(_DIALOGS):
        dialog = Dialog(id=f"proof-{number}", messages=messages)
        try:
            chat_format.verify(dialog, generate=True)
        except FormatError as error:
            raise ModelError(f"{folder}: {error}") from error
        if theirs is None:
            continue
        plain = [{"role": message.role, "content": message.content} for message in messages]
        rendered = theirs.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        ids = list(theirs.encode(rendered, add_special_tokens=False))
        if ids != list(chat_format.encode(dialog, generate=True).ids):
            raise ModelError(f"{folder}: transformers writes dialog {number} as {rendered!r} with the ids {ids}, ours are others")
    return {"dialogs": len(_DIALOGS), "differences": 0, "format": chat_format.name}
