"""Keys and values of the positions already read, so that each new token costs one position. Static memory, a length for each row.

Rows of a batch may have lengths of their own: a row's new token goes to its own next slot, and whatever lies in slots beyond its length is never read. A batch
of prompts is therefore padded on the right, with `document_ids` -1 at the padding. Costs 2 * layers * key heads * head_dim values a slot. Does not
page: a row takes `max_length` slots from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from herdling.base.errors import ModelError
from herdling.model.attention import Attend
from herdling.model.config import LlamaConfig
from herdling.model.masks import cache_mask


class KVCache:
    """The cache of `batch_size` rows of at most `max_length` positions.

    `keys[layer]` and `values[layer]` are `[B, H_kv, S, head_dim]`; `lengths` is int64 `[B]` on the device: positions held by each row.
    """

    def __init__(self, config: LlamaConfig, batch_size: int, max_length: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        shape = (batch_size, config.num_key_value_heads, max_length, config.head_dim)
        self.max_length = max_length
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.longest = 0  # of all rows, known to the host: how many slots attention has to look at

    @property
    def batch_size(self) -> int:
        """Rows held now."""
        return self.lengths.shape[0]

    def positions(self, num_new: int) -> Tensor:
        """Return the positions of the next `num_new` tokens of each row, `[B, num_new]`.

        Raises:
            ModelError: the longest row has no room for them.
        """
        if self.longest + num_new > self.max_length:
            raise ModelError(f"the cache holds {self.max_length:,} positions, {self.longest:,} are taken, {num_new:,} more were asked for: make it longer")
        return self.lengths[:, None] + torch.arange(num_new, device=self.lengths.device)

    def attention(self, positions: Tensor) -> Attend:
        """Return attention that stores the new keys and values at `positions [B, T]` and reads all up to each query's own position."""
        num_keys = self.longest + positions.shape[1]
        rows = torch.arange(self.batch_size, device=positions.device)[:, None]
        mask = cache_mask(positions, num_keys)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            self.keys[layer][rows, :, positions] = keys.transpose(1, 2)
            self.values[layer][rows, :, positions] = values.transpose(1, 2)
            k, v = self.keys[layer][:, :, :num_keys], self.values[layer][:, :, :num_keys]
            return F.scaled_dot_product_attention(queries, k, v, attn_mask=mask, enable_gqa=True)

        return attend

    def advance(self, num_new: Tensor | int) -> None:
        """Count the positions just written: `[B]`, or one number for all rows."""
        self.lengths += num_new
        self.longest = self.longest + num_new if isinstance(num_new, int) else int(self.lengths.max())

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order (a row may be named twice: it is copied)."""
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.lengths.device)
        self.keys = [keys[index] for keys in self.keys]
        self.values = [values[index] for values in self.values]
        self.truncate(self.lengths[index])

    def truncate(self, lengths: Tensor | int) -> None:
        """Forget all positions from `lengths` on: `[B]`, or one number for all rows. 0 empties the cache."""
        held = lengths if isinstance(lengths, Tensor) else self.lengths.clamp(max=lengths)
        self.lengths = held.to(self.lengths.device, torch.int64)
        self.longest = int(self.lengths.max()) if held.numel() else 0
