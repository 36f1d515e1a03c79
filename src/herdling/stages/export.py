"""The stage export: a model folder to give away, which proves itself before it counts as made.

Reads a model folder; writes one with the weights in the wanted type, the tokenizer, the chat template and the generation settings, and `proof.json`.
"""

from __future__ import annotations

from typing import Literal

from herdling.stages.registry import ModelInput, StageRun, stage


@stage("export", output="export")
class Export:
    """Save the model for the ecosystem and read it back with another program: the same logits, token ids and chat text, or the stage fails.

    The papers do not speak of it. Opens in transformers, vLLM and llama.cpp as it is.
    """

    model: ModelInput
    """The model to export: the output of sft or pretrain, or a model folder."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """The type of the weights in the folder. Unset: that of the model. bfloat16 halves the size; the proof tells what the rounding did to the logits."""
    max_shard_gigabytes: float = 5.0
    """Largest weights file; a larger model is split into several, with an index."""

    def run(self, run: StageRun) -> None:
        """Load, save, prove."""
        import torch

        from herdling.base.artifact import write_json_atomic
        from herdling.checkpoint.huggingface import save_model
        from herdling.checkpoint.proof import prove_folder
        from herdling.generate.loaded import load

        loaded = load(run.input(self.model))
        chat_format = loaded.chat_format if loaded.can_chat else None
        run.record(tokenizer=loaded.tokenizer.fingerprint, chat_template=chat_format.fingerprint if chat_format else "")
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        shard_size = round(self.max_shard_gigabytes * 1e9)
        save_model(run.folder, loaded.model, loaded.tokenizer, chat_format, dtype=dtype, max_shard_size=shard_size)

        proof = prove_folder(run.folder, loaded.model, loaded.tokenizer, chat_format)
        write_json_atomic(run.folder / "proof.json", proof)
        size = sum(path.stat().st_size for path in run.folder.glob("*.safetensors"))
        run.summary |= {
            "parameters": loaded.config.num_parameters(),
            "megabytes": round(size / 1e6, 2),
            "largest_logit_difference": float(f"{proof['logits']['largest_difference']:.2e}"),
            "read_by": proof["read_by"],
        }
