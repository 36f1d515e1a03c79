"""Text to token ids and back, for both families of Llama tokenizers, and chats to token ids with a role for every token.

    base           what every tokenizer can do, and its fingerprint
    sentencepiece  Llama 1 and 2
    tiktoken       Llama 3
    train          both families, from texts
    load           any of their files
    chat_format    dialogs: Llama 2, Llama 3, Llama 3.1 with tools

No file here imports torch.
"""

from herdling.tokenizer.base import Tokenizer
from herdling.tokenizer.load import load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
