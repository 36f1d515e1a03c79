"""A reward model: the body of a Llama with a scalar head in place of the output matrix (Llama 2, section 3.2.2), under Hugging Face's weight names.

The value of a dialog is read at the last token of its last answer, the one that ends the turn; the head gives a value at every position, and whoever reads
them says where. It begins as a chat model's body, so that it knows what the policy knows; the papers leave the first weights of the head open, ours are those
of Stiennon et al. (2020): normal with variance 1 / (hidden_size + 1), so that first scores are about as large as a hidden unit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herdling.base.seeds import stream_seed
from herdling.model.attention import self_attention
from herdling.model.config import LlamaConfig
from herdling.model.rope import RopeTable
from herdling.model.transformer import Llama, Stack


class RewardModel(nn.Module):
    """Hidden states to one value each. Weights are as PyTorch leaves them until `load_state_dict`; `from_llama` starts one from a model."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Stack(config)
        self.score = nn.Linear(config.hidden_size, 1, bias=False)
        self.rope = RopeTable(config)

    @classmethod
    def from_llama(cls, llama: Llama, seed: int) -> RewardModel:
        """Take over the body of a Llama (not a copy) and draw a head, the same for the same seed."""
        with torch.device("meta"):
            made = cls(llama.config)
        made.model = llama.model
        like, size = llama.output_weight, llama.config.hidden_size
        drawn = torch.randn((1, size), generator=torch.Generator().manual_seed(stream_seed(seed, "score head"))) * (size + 1) ** -0.5
        made.score.weight = nn.Parameter(drawn.to(like.device, like.dtype))
        return made

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.score.weight.dtype

    def forward(
        self, input_ids: Tensor, *, position_ids: Tensor | None = None, document_ids: Tensor | None = None, response_ids: Tensor | None = None
    ) -> Tensor:
        """Return the value of every position, float32 `[B, T]`, for ids `[B, T]`; the other arguments are those of `Llama.forward`."""
        length = input_ids.shape[1]
        angles = self.rope.angles(position_ids, length, self.score.weight)
        hidden = self.model(input_ids, angles, self_attention(document_ids, length, input_ids.device, response_ids))
        # The sum in float32: bfloat16 would round a score of 3 to steps of 1/64, and differences of scores are what is learned.
        return F.linear(hidden.float(), self.score.weight.float()).squeeze(-1)
