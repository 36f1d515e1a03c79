"""A model folder as the ecosystem has it: `config.json`, `*.safetensors` (one file, or shards with an index), tokenizer files, `generation_config.json`.

Opens in transformers, vLLM and llama.cpp as it is. Loading is strict: every weight that the config asks for, of its shape, and no other. The header of the
weights names the tokenizer and the chat template that they were trained with, so that weights beside another tokenizer are a loud error. A reward model is
saved as transformers' `LlamaForSequenceClassification` with one label. Costs: saving holds one shard beside the model in memory, loading one tensor. Does not
read pickles (`pytorch_model.bin`), which could run code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from herdling.base.artifact import remove, storage_error, write_json_atomic
from herdling.base.errors import LineageError, ModelError
from herdling.checkpoint.huggingface_config import (
    CONFIG,
    GENERATION_CONFIG,
    config_to_huggingface,
    generation_config,
    is_reward_model,
    load_config,
    load_stop_ids,
    read_config,
    reward_config,
)
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.tokenizer.base import Tokenizer
from herdling.tokenizer.chat_format import ChatFormat

__all__ = ["check_tokenizer", "load_config", "load_model", "load_reward_model", "load_stop_ids", "recorded_fingerprints", "save_model"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
EMBEDDING = "model.embed_tokens.weight"

AnyModel = TypeVar("AnyModel", Llama, RewardModel)


def save_model(
    folder: Path,
    model: Llama | RewardModel,
    tokenizer: Tokenizer,
    chat_format: ChatFormat | None = None,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int = SHARD_BYTES,
) -> None:
    """Write a model folder. `dtype` None keeps that of the weights; `max_shard_size` is in bytes of one weights file.

    All is written beside and then renamed, `config.json` last: a folder with a `config.json` is a whole model. What else is in the folder stays.

    Raises:
        ModelError: the tokenizer has more ids than the model has rows.
        StorageError: the disk is full or refuses; a model that stood here before is untouched.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, the model only {model.config.vocab_size:,} rows")
    with _replacing_model(folder) as partial:
        _save_weights(partial, model, _fingerprints(tokenizer, chat_format), dtype, max_shard_size)
        tokenizer.save(partial, chat_format)
        stop_ids = (tokenizer.eos_id,) if chat_format is None else chat_format.stop_ids
        pad_id = tokenizer.pad_id if tokenizer.pad_id >= 0 else None
        name = str(dtype or next(model.parameters()).dtype).removeprefix("torch.")
        content = config_to_huggingface(model.config, dtype=name, bos_id=tokenizer.bos_id, eos_ids=stop_ids, pad_id=pad_id)
        if isinstance(model, RewardModel):
            content = reward_config(content, partial, tokenizer)
        else:
            write_json_atomic(partial / GENERATION_CONFIG, generation_config(bos_id=tokenizer.bos_id, eos_ids=stop_ids, pad_id=pad_id))
        write_json_atomic(partial / CONFIG, content)


@contextmanager
def _replacing_model(folder: Path) -> Iterator[Path]:
    """Give a folder to write a model to; move its files into `folder` at the end, `config.json` last, and drop weights of an older model."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial-model"
    remove(partial)
    partial.mkdir()
    try:
        yield partial
        written = sorted((path for path in partial.rglob("*") if path.is_file()), key=lambda path: path.name == CONFIG)
        (folder / CONFIG).unlink(missing_ok=True)
        for stale in [*folder.glob("model*.safetensors"), folder / INDEX]:
            stale.unlink(missing_ok=True)
        for path in written:
            place = folder / path.relative_to(partial)
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fingerprints(tokenizer: Tokenizer, chat_format: ChatFormat | None) -> dict[str, str]:
    """Return the header of a weights file. `format` is what transformers asks for, the rest is ours."""
    template = {} if chat_format is None else {"chat_template": chat_format.fingerprint}
    return {"format": "pt", "tokenizer": tokenizer.fingerprint, **template}


def _save_weights(folder: Path, model: Llama | RewardModel, header: dict[str, str], dtype: torch.dtype | None, max_shard_size: int) -> None:
    shards = _split(model.state_dict(), dtype, max_shard_size)
    names = [WEIGHTS] if len(shards) == 1 else [f"model-{index:05}-of-{len(shards):05}.safetensors" for index in range(1, len(shards) + 1)]
    total = 0
    for name, shard in zip(names, shards, strict=True):
        # A copy on the CPU in the wanted type, shard by shard: the second copy in memory is one shard, not the model.
        tensors = {key: tensor.detach().to("cpu", dtype or tensor.dtype).contiguous() for key, tensor in shard.items()}
        total += sum(tensor.nbytes for tensor in tensors.values())
        save_file(tensors, folder / name, metadata=header)
        _order_header(folder / name)
    if len(shards) > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        write_json_atomic(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})


def _order_header(path: Path) -> None:
    """Put the notes in the header in order, in place: safetensors writes them in a random one, and equal models must be equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        content = json.loads(file.read(size))
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        ordered = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(ordered) == size, "safetensors writes its header in another form than before"
        file.seek(8)
        file.write(ordered)


def _split(state: dict[str, Tensor], dtype: torch.dtype | None, max_shard_size: int) -> list[dict[str, Tensor]]:
    """Split weights, in their order, into shards of at most `max_shard_size` bytes (a larger weight stands alone)."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        num_bytes = tensor.numel() * (dtype or tensor.dtype).itemsize
        if shards[-1] and size + num_bytes > max_shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += num_bytes
    return shards


def load_model(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Llama:
    """Load the model of a folder, ready for inference or more training. `dtype` None keeps that of the file.

    Raises:
        ModelError: an unreadable config or weights file; weights that are missing, unexpected or of another shape, by name; a reward model.
    """
    if is_reward_model(folder):
        raise ModelError(f"{folder}: is a reward model: it scores dialogs and predicts no tokens. Load it with herdling.load(...).score, or name a chat model")
    return _load(folder, Llama, device, dtype)


def load_reward_model(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> RewardModel:
    """Load the reward model of a folder, as `load_model` does. Raises `ModelError` also for a model without a score head."""
    if not is_reward_model(folder):
        raise ModelError(f"{folder}: is no reward model: it has no score head. Name the output of a stage of kind reward")
    return _load(folder, RewardModel, device, dtype)


def _load(folder: Path, kind: type[AnyModel], device: torch.device | str, dtype: torch.dtype | None) -> AnyModel:
    config = load_config(folder)
    with open_weights(folder, kind, config) as read:
        state = {name: read(name) for name in weight_shapes(kind, config)}
    return _from_state(kind, config, state, device, dtype)


@contextmanager
def open_weights(folder: Path, kind: type[Llama] | type[RewardModel], config: LlamaConfig) -> Iterator[Callable[[str], Tensor]]:
    """Give a function that reads one weight of a model folder by its name, so that a model need not be in memory whole. Raises `ModelError` as `load_model`."""
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(path)) for path in weight_files(folder)]
        places = {name: file for file in files for name in file.keys()}  # noqa: SIM118 (no mapping)
        found = {name: tuple(file.get_slice(name).get_shape()) for name, file in places.items()}
        _check_weights(weight_shapes(kind, config), found, config.tie_word_embeddings, folder)
        if config.tie_word_embeddings and "lm_head.weight" in places:
            _check_tied(places["lm_head.weight"].get_tensor("lm_head.weight"), places[EMBEDDING].get_tensor(EMBEDDING), folder)
        yield lambda name: places[name].get_tensor(name)


def reward_model_from_state(config: LlamaConfig, state: dict[str, Tensor]) -> RewardModel:
    """Build a reward model of these weights, which must be complete."""
    return _from_state(RewardModel, config, state, "cpu", None)


def model_from_state(config: LlamaConfig, state: dict[str, Tensor], *, device: torch.device | str, dtype: torch.dtype | None) -> Llama:
    """Build a model of these weights, which must be complete."""
    return _from_state(Llama, config, state, device, dtype)


def _from_state(kind: type[AnyModel], config: LlamaConfig, state: dict[str, Tensor], device: torch.device | str, dtype: torch.dtype | None) -> AnyModel:
    with torch.device("meta"):
        model = kind(config)
    model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in state.items()}, strict=True, assign=True)
    return model.eval()


def weight_files(folder: Path) -> list[Path]:
    """Return the weights files of a model folder, in order. Raises `ModelError` when there are none, or one of an index is missing."""
    index = folder / INDEX
    if not index.is_file():
        if (folder / WEIGHTS).is_file():
            return [folder / WEIGHTS]
        hint = " (pytorch_model.bin is a pickle, which can run code: save it as safetensors first)" if list(folder.glob("pytorch_model*.bin")) else ""
        raise ModelError(f"{folder}: holds no {WEIGHTS} and no {INDEX}{hint}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index}: is damaged ({error!r})") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{index}: names {len(missing)} weights file(s) that are not in the folder: {', '.join(missing[:5])}. Fetch or copy them again")
    return [folder / name for name in names]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ModelError(f"{path}: is damaged or no safetensors file ({error}). Fetch or copy it again") from None


def weight_shapes(kind: type[Llama] | type[RewardModel], config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every weight that a model of this config has, in order."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(config).state_dict().items()}


def _check_weights(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], tied: bool, folder: Path) -> None:
    """Compare names and shapes with what the config asks for."""
    # Old folders carry the RoPE frequencies, which follow from the config; tied models may repeat the embedding (checked by the caller).
    extra = {name for name in found if name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight")}
    misshaped = [f"{name} is {found[name]}, expected {shape}" for name, shape in expected.items() if name in found and found[name] != shape]
    faults = [
        (f"missing: {_some(sorted(expected.keys() - found.keys()))}", expected.keys() - found.keys()),
        (f"unexpected: {_some(sorted(found.keys() - expected.keys() - extra))}", found.keys() - expected.keys() - extra),
        (f"of another shape than {CONFIG} says: {_some(misshaped)}", misshaped),
    ]
    if any(which for _, which in faults):
        raise ModelError(f"{folder}: the weights are not those of its {CONFIG}: " + "; ".join(text for text, which in faults if which))


def _some(items: list[str], limit: int = 5) -> str:
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")


def _check_tied(head: Tensor, embedding: Tensor, folder: Path) -> None:
    if not torch.equal(head, embedding):
        raise ModelError(f"{folder}: {CONFIG} ties the output to the embedding, yet lm_head.weight is another matrix. Set tie_word_embeddings to false")


def recorded_fingerprints(folder: Path) -> dict[str, str]:
    """Return what the header of the weights says of `tokenizer` and `chat_template`; empty for folders that herdling did not write."""
    with _opened(weight_files(folder)[0]) as file:
        return {name: value for name, value in (file.metadata() or {}).items() if name in ("tokenizer", "chat_template")}


def check_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Check that this tokenizer is the one of the weights: by fingerprint where recorded, else by what `config.json` says of ids.

    Raises:
        LineageError: it is another one.
    """
    recorded = recorded_fingerprints(folder).get("tokenizer")
    if recorded is not None:
        if recorded != tokenizer.fingerprint:
            raise LineageError(
                f"{folder}: its weights were trained with the tokenizer {recorded[:12]}, the one given is {tokenizer.fingerprint[:12]}."
                " Token ids mean different texts: put the model's own tokenizer files back, or train it anew with this one"
            )
        return
    config = read_config(folder)
    if tokenizer.vocab_size > config["vocab_size"]:
        rows = config["vocab_size"]
        raise LineageError(f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, the weights only {rows:,} rows: it belongs to another model")
    bos_id = config.get("bos_token_id")
    if bos_id is not None and bos_id != tokenizer.bos_id:
        raise LineageError(f"{folder}: {CONFIG} begins texts with id {bos_id}, the tokenizer with {tokenizer.bos_id}: it belongs to another model")
