"""Comparisons made by a stated rule, a tokenizer and chat format to encode them."""

from __future__ import annotations

from functools import cache

from herdling.tokenizer.chat_format import ChatFormat, chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Comparison, Completion, Dialog, Message, Rating

WORDS = ["list", "dict", "tuple", "string", "number", "returns", "the", "a", "of", "an", "item", "key", "value", "for", "each"]


@cache
def toy_format() -> ChatFormat:
    """A Llama 3 chat over 300 ids."""
    return chat_format(train_byte_level_bpe(iter([" ".join(WORDS), *WORDS]), 300), "llama3")


def answer(text: str, stop_reason: str = "end_of_turn") -> Completion:
    return Completion(message=Message(role="assistant", content=text), stop_reason=stop_reason)


def question(text: str, *turns: str) -> Dialog:
    """A dialog of one question, or of more turns, user and assistant in turn."""
    roles = ("user", "assistant")
    return Dialog(id=text, messages=tuple(Message(role=roles[place % 2], content=turn) for place, turn in enumerate((text, *turns))))


def comparison(number: int = 0, texts: tuple[str, ...] = ("a key", "the dict"), **changes: object) -> Comparison:
    """A comparison of these answers, the first the best."""
    fields = {"id": f"c{number}", "dialog": question(f"the item {number}"), "responses": tuple(map(answer, texts)), "ranking": tuple(range(len(texts)))}
    return Comparison(**{**fields, **changes})


def rated(number: int, rating: Rating | None) -> Comparison:
    return comparison(number, rating=rating)
