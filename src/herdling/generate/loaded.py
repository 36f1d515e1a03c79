"""What `herdling.load` returns: a model with its tokenizer and chat format, to ask for logits, text or the next turn of a chat; or a reward model, for scores.

Reads a Hugging Face folder, a run's folder (its newest model) or a llama2.c `.bin` file. Loads the weights once; the decoder's copy is made when something is
first generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor

from herdling.base.artifact import model_in
from herdling.base.errors import DataError, FormatError, ModelError, TokenizerError
from herdling.checkpoint.huggingface import check_tokenizer, load_model, load_reward_model, load_stop_ids
from herdling.checkpoint.huggingface_config import is_reward_model
from herdling.checkpoint.llama2c import load_llama2c
from herdling.generate.chat import ChatStream, Turns, as_dialog, chat_stop_ids, completion_of
from herdling.generate.engine import Answer, Engine, Request, text_of
from herdling.generate.fingerprint import model_fingerprint
from herdling.generate.scoring import score_dialogs
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.tokenizer.base import Tokenizer
from herdling.tokenizer.chat_format import ChatFormat, chat_format, format_named_by
from herdling.tokenizer.load import load_tokenizer
from herdling.types import Completion, Sampling, StopReason

DtypeName = Literal["float32", "bfloat16", "float16"]
Prompt = str | Sequence[int]
_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "original/tokenizer.model")


class SamplingOptions(TypedDict, total=False):
    """What `generate` and `chat` take by name: the fields of `Sampling`, whose defaults hold for what is left out; a single stop string may stand alone."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stop: str | Sequence[str]


class LoadedModel:
    """A model ready for use. Sampling defaults are Llama's: temperature 0.6, top-p 0.9 (Meta's code); temperature 0 is greedy."""

    def __init__(
        self,
        model: Llama | RewardModel,
        tokenizer: Tokenizer | None = None,
        chat: ChatFormat | None = None,
        *,
        name: str = "model",
        stop_ids: Sequence[int] = (),
        path: Path | None = None,
    ) -> None:
        self._model = model
        self.name = name
        self.path = path
        self._tokenizer = tokenizer
        self._chat_format = chat
        self._stop_ids = tuple(stop_ids)

    @cached_property
    def fingerprint(self) -> str:
        """What the weights are known by on disk (`generate.fingerprint`); an empty text for a model that was never there."""
        return "" if self.path is None else model_fingerprint(self.path)

    @property
    def model(self) -> Llama:
        """The Llama. Raises `ModelError` for a reward model, which predicts no tokens."""
        if isinstance(self._model, RewardModel):
            raise ModelError(f"{self.name}: is a reward model: it scores dialogs (score, score_batch) and writes none. Load a chat model for that")
        return self._model

    @property
    def reward_model(self) -> RewardModel:
        """The reward model. Raises `ModelError` for a model without a score head."""
        if isinstance(self._model, RewardModel):
            return self._model
        raise ModelError(f"{self.name}: has no score head: it writes text and scores none. Load a reward model, the output of a stage of kind reward")

    @property
    def config(self) -> LlamaConfig:
        """The shape of the model."""
        return self._model.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model was trained with. Raises `TokenizerError` when none was found with it."""
        if self._tokenizer is None:
            raise TokenizerError(f"{self.name}: has no tokenizer beside its weights. Name it: herdling.load(path, tokenizer=...)")
        return self._tokenizer

    @property
    def chat_format(self) -> ChatFormat:
        """How chats are written for this model. Raises `FormatError` for a base model, which was never taught one."""
        if self._chat_format is None:
            raise FormatError(f"{self.name}: is a base model without a chat template. Give it a text to go on from (generate), or fine-tune it (stage sft)")
        return self._chat_format

    @property
    def can_chat(self) -> bool:
        """True if the model has a chat format."""
        return self._chat_format is not None

    @cached_property
    def engine(self) -> Engine:
        """The engine over this model, with the ids that end its answers. Delete the attribute after changing weights."""
        stop_ids: dict[int, StopReason] = dict.fromkeys(self._stop_ids, "end_of_text")
        if self._tokenizer is not None:
            stop_ids[self._tokenizer.eos_id] = "end_of_text"
        if self._chat_format is not None:
            stop_ids = chat_stop_ids(self._chat_format, self._stop_ids)
        return Engine(self.model, self._tokenizer, stop_ids)

    @torch.inference_mode()
    def logits(self, ids: Tensor | Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """Return the logits after every position: `[T]` or `[B, T]` ids to float32 `[T, V]` or `[B, T, V]`. Begin with `tokenizer.bos_id` yourself.

        Raises:
            DataError: no ids, more than the context, or ids that the model has not.
        """
        given = torch.as_tensor(ids)
        rows = (given if given.dim() == 2 else given[None]).to(self.model.output_weight.device, torch.int64)
        if given.dim() not in (1, 2) or not given.numel():
            raise DataError(f"ids have the shape {tuple(given.shape)}, expected [T] or [B, T] with at least one id")
        if rows.shape[1] > self.config.max_position_embeddings:
            raise DataError(f"{rows.shape[1]:,} ids are more than the model's context of {self.config.max_position_embeddings:,}")
        if rows.min() < 0 or rows.max() >= self.config.vocab_size:
            raise DataError(f"ids go from {int(rows.min())} to {int(rows.max())}, the model's from 0 to {self.config.vocab_size - 1:,}")
        logits = self.model.logits(self.model(rows)).clone()
        return logits if given.dim() == 2 else logits[0]

    def generate(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> str:
        """Go on from a text (a beginning-of-text token is put before it) or from ids (taken as they are); return the new text only.

        Raises:
            DataError: a prompt longer than the context, with both numbers.
            SettingsError: a sampling setting that means nothing.
        """
        return self.generate_batch([prompt], **options)[0]

    def generate_batch(self, prompts: Sequence[Prompt], **options: Unpack[SamplingOptions]) -> list[str]:
        """Go on from each prompt. Each answer is the one that `generate` gives alone with the same seed: equal prompts have equal answers."""
        answers = self.answer([self.encode(prompt) for prompt in prompts], _sampling(options))
        return [text_of(answer, self.tokenizer, self.engine.stop_ids) for answer in answers]

    def answer(self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling], *, logprobs: bool = False) -> list[Answer]:
        """Go on from prompts of ids, with one sampling for all or one each; return ids, why each ended and, if asked for, log-probabilities."""
        each = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        return self.engine.generate([Request(prompt, one) for prompt, one in zip(prompts, each, strict=True)], logprobs=logprobs)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return a prompt's ids: text with a beginning-of-text token before it, ids as they are."""
        return self.tokenizer.encode(prompt, bos=True) if isinstance(prompt, str) else [int(token) for token in prompt]

    def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> Iterator[str]:
        """Yield the text that goes on from a prompt, in whole characters, as it is made."""
        for piece, _ in self.engine.stream(Request(self.encode(prompt), sampling or Sampling())):
            if piece:
                yield piece

    def chat(self, dialog: Turns, **options: Unpack[SamplingOptions]) -> Completion:
        """Return the assistant's next message. `dialog` is a `Dialog`, or a list of messages or of `{"role": ..., "content": ...}`.

        Raises:
            FormatError: a base model, or a dialog that does not alternate or does not end with the user.
            DataError: a dialog longer than the context, with both numbers.
        """
        return self.chat_batch([dialog], _sampling(options))[0]

    def chat_batch(self, dialogs: Sequence[Turns], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Return the assistant's next message of each dialog, many at a time; one that stands there several times is encoded and read once."""
        encoded: dict[int, Sequence[int]] = {}
        for dialog in dialogs:
            if id(dialog) not in encoded:
                encoded[id(dialog)] = self.chat_format.encode(as_dialog(dialog), generate=True).ids
        answers = self.answer([encoded[id(dialog)] for dialog in dialogs], sampling, logprobs=True)
        completions = [completion_of(answer, self.chat_format, self.engine.stop_ids, self.name) for answer in answers]
        return [replace(completion, model_fingerprint=self.fingerprint) for completion in completions]

    def score(self, dialog: Turns) -> float:
        """Return the score of a dialog that ends with the assistant's message: what a reward model thinks of that message.

        Raises:
            ModelError: the model has no score head.
            FormatError: a dialog that does not alternate or does not end with the assistant.
            DataError: a dialog longer than the context, with both numbers.
        """
        return self.score_batch([dialog])[0]

    def score_batch(self, dialogs: Sequence[Turns]) -> list[float]:
        """Return the score of each dialog; a prompt that several share is computed once."""
        return score_dialogs(self.reward_model, self.chat_format, [as_dialog(dialog) for dialog in dialogs])

    def chat_length(self, dialog: Turns) -> int:
        """Return how many tokens a dialog takes up to where the answer begins."""
        return len(self.chat_format.encode(as_dialog(dialog), generate=True).ids)

    def stream_chat(self, dialog: Turns, sampling: Sampling | None = None) -> ChatStream:
        """Return the assistant's next message as a stream: iterate for text, then read its `completion`."""
        return ChatStream(self.engine, self.chat_format, as_dialog(dialog), sampling or Sampling(), self.name)


def _sampling(options: SamplingOptions) -> Sampling:
    sampling = Sampling(**options)  # type: ignore[arg-type]  # stop becomes a tuple below
    return replace(sampling, stop=(sampling.stop,) if isinstance(sampling.stop, str) else tuple(sampling.stop))


def load(path: str | Path, *, tokenizer: str | Path | Tokenizer | None = None, device: str = "cpu", dtype: DtypeName | None = None) -> LoadedModel:
    """Load a model: a Hugging Face folder, a run's folder (its newest model), or a llama2.c `.bin` file.

    `tokenizer` names one that does not lie beside the weights; `dtype` None keeps the type of the file, and takes float32
    for a reward model.

    Raises:
        ModelError: no model there, or one whose weights and config do not fit.
        LineageError: a tokenizer that is not the one of the weights.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: is not there. A model is a Hugging Face folder, a run's folder, or a llama2.c .bin file")
    kind = None if dtype is None else getattr(torch, dtype)
    if path.is_file():
        return _load_file(path, tokenizer, device, kind)
    folder = model_in(path)
    model = _load_weights(folder, device, kind)
    chosen = _find_tokenizer(folder, tokenizer)
    chat = None
    if chosen is not None:
        check_tokenizer(folder, chosen)
        chat = _find_chat_format(folder, chosen)
    return LoadedModel(model, chosen, chat, name=str(path), stop_ids=load_stop_ids(folder), path=path)


def load_chat_format(path: Path) -> ChatFormat:
    """Load how chats are written for the model at a path, without its weights. Raises `FormatError` for a base model, `TokenizerError` without a tokenizer."""
    folder = model_in(path)
    chat = _find_chat_format(folder, load_tokenizer(folder))
    if chat is None:
        raise FormatError(f"{path}: is a base model without a chat template. Fine-tune it first (stage sft)")
    return chat


def _load_weights(folder: Path, device: str, dtype: torch.dtype | None) -> Llama | RewardModel:
    if not is_reward_model(folder):
        return load_model(folder, device=device, dtype=dtype)
    # bfloat16 would round the differences of scores, and what stands beside a dialog would move its score.
    return load_reward_model(folder, device=device, dtype=dtype or torch.float32)


def _load_file(path: Path, tokenizer: str | Path | Tokenizer | None, device: str, dtype: torch.dtype | None) -> LoadedModel:
    if path.suffix != ".bin":
        raise ModelError(f"{path}: is no model file. Accepted: a llama2.c .bin file, or the folder that holds config.json and safetensors")
    model = load_llama2c(path, device=device, dtype=dtype)
    chosen = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    if chosen is not None and chosen.vocab_size != model.config.vocab_size:
        raise ModelError(f"{path}: has {model.config.vocab_size:,} rows, the tokenizer {chosen.vocab_size:,} ids: it belongs to another model")
    return LoadedModel(model, chosen, name=str(path), path=path)


def _find_tokenizer(folder: Path, given: str | Path | Tokenizer | None) -> Tokenizer | None:
    if given is not None:
        return load_tokenizer(given) if isinstance(given, str | Path) else given
    return load_tokenizer(folder) if any((folder / name).is_file() for name in _TOKENIZER_FILES) else None


def _find_chat_format(folder: Path, tokenizer: Tokenizer) -> ChatFormat | None:
    """Return the format whose template the folder has. A foreign template means the format of the tokenizer's family, whose ids it shares."""
    beside = folder / "chat_template.jinja"  # where transformers 5 writes it
    path = folder / "tokenizer_config.json"
    template: Any = beside.read_text(encoding="utf-8") if beside.is_file() else None
    if template is None and path.is_file():
        declared: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        template = declared.get("chat_template")
    if not template:
        return None
    return chat_format(tokenizer, format_named_by(template) if isinstance(template, str) else None)
