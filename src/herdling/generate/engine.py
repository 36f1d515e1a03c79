"""Many requests through one model: batches of prompts of any lengths, each request with its own sampling, seed and end.

Reads token ids, gives token ids and their log-probabilities; text and chats are made of it in `loaded.py` and `chat.py`. What a request answers does not depend
on the requests beside it: its random numbers are a stream of its own seed, and rows of a batch do not see each other. Requests are taken in groups of like
length; rows that have ended leave the group. A prompt that many requests have in common is read once, and its cache copied to each of their rows (Llama 3,
section 4.2.2, shares the pages instead). Prompts that only begin alike share nothing, and the cache is not paged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from secrets import randbits

import numpy as np

from herdling.base.errors import DataError
from herdling.base.seeds import stream
from herdling.generate.decode import ReadPrompts, make_decoder, read_prompts
from herdling.generate.sampling import check_sampling, logprobs_of, sample_tokens
from herdling.generate.stream import TextStream
from herdling.model.transformer import Llama
from herdling.tokenizer.base import Tokenizer
from herdling.types import Sampling, StopReason

MAX_ROWS = 32
# Copying a group's cache costs a few steps: do it when this share of its rows has ended.
_ENDED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how to go on from it. `sampling.seed` None draws a new seed each time."""

    prompt_ids: Sequence[int]
    sampling: Sampling


@dataclass(slots=True)
class Answer:
    """What was generated for one request so far. `token_ids` include the id that ended it; `logprobs` (nats) are empty unless asked for."""

    request: Request
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: StopReason | None = None
    text: TextStream | None = None
    """Kept while generating where somebody reads along, or where a stop string may come."""


class Engine:
    """One model with one tokenizer, ready to generate. Weights are those at the time of `__init__`.

    `stop_ids` says which ids end an answer, and why; without it, the tokenizer's end of text does. `tokenizer` None: for ids without stop strings.
    """

    def __init__(self, model: Llama, tokenizer: Tokenizer | None, stop_ids: Mapping[int, StopReason] | None = None, *, max_rows: int = MAX_ROWS) -> None:
        self.model = model
        self.tokenizer = tokenizer
        if stop_ids is None:
            stop_ids = {} if tokenizer is None else {tokenizer.eos_id: "end_of_text"}
        self.stop_ids = dict(stop_ids)
        self.max_rows = max_rows
        self.decoder = make_decoder(model)
        self._working_on: list[Answer] | None = None

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Answer]:
        """Answer all requests, in their order.

        Raises:
            DataError: a prompt that is empty, longer than the context, or with ids that the model has not.
            SettingsError: a sampling setting that means nothing.
        """
        for request in requests:
            self._check(request)
        answers = [Answer(request) for request in requests]
        for answer in answers:
            answer.text = self._text_stream(answer) if answer.request.sampling.stop else None
        same: dict[tuple[int, ...], list[Answer]] = {}
        for answer in answers:
            same.setdefault(tuple(answer.request.prompt_ids), []).append(answer)
        # Like lengths together: short prompts beside a long one would wait for it.
        prompts = sorted(same, key=len)
        for first in range(0, len(prompts), self.max_rows):
            block = prompts[first : first + self.max_rows]
            read = read_prompts(self.model, block)
            asked = [(place, answer) for place, prompt in enumerate(block) for answer in same[prompt]]
            for start in range(0, len(asked), self.max_rows):
                for _ in self._steps(asked[start : start + self.max_rows], read, logprobs):
                    pass
        return answers

    def stream(self, request: Request, *, logprobs: bool = False) -> Iterator[tuple[str, Answer]]:
        """Answer one request piece by piece: yields new text (maybe none) and the answer so far. Closing the iterator stops it."""
        self._check(request)
        answer = Answer(request)
        answer.text = text = self._text_stream(answer)
        seen = 0
        for _ in self._steps([(0, answer)], read_prompts(self.model, [request.prompt_ids]), logprobs):
            if answer.stop_reason not in (None, "stop_string"):
                text.finish()
            yield text.text[seen:], answer
            seen = len(text.text)

    def _text_stream(self, answer: Answer) -> TextStream:
        if self.tokenizer is None:
            raise DataError("this model was loaded without a tokenizer, so it gives ids but no text, and knows no stop strings. Load it with tokenizer=...")
        return TextStream(self.tokenizer, answer.request.prompt_ids, answer.request.sampling.stop)

    def _check(self, request: Request) -> None:
        check_sampling(request.sampling)
        length, context, size = len(request.prompt_ids), self.model.config.max_position_embeddings, self.model.config.vocab_size
        if not length:
            raise DataError("the prompt has no tokens; begin a text with the tokenizer's bos_id")
        if length >= context:
            raise DataError(f"the prompt has {length:,} tokens, the model's context is {context:,}: an answer fits behind {context - 1:,} or fewer")
        outside = [token for token in request.prompt_ids if not 0 <= token < size]
        if outside:
            raise DataError(f"the prompt holds the id {outside[0]}, the model's ids are 0 to {size - 1:,}. It was made with another tokenizer")

    def _steps(self, asked: Sequence[tuple[int, Answer]], read: ReadPrompts, logprobs: bool) -> Iterator[None]:
        """Generate for answers, each behind a prompt that was read, by its place there, until all have ended; yields after each token."""
        group = [answer for _, answer in asked]
        context = self.model.config.max_position_embeddings
        longest = max(len(answer.request.prompt_ids) for answer in group)
        room = max(min(answer.request.sampling.max_tokens, context - len(answer.request.prompt_ids)) for answer in group)
        chances = [_chances(answer.request.sampling) for answer in group]
        rows = list(range(len(group)))  # which answer stands in which row of the decoder
        self._working_on = group
        logits = self.decoder.begin(read, [place for place, _ in asked], longest + room)
        while True:
            samplings = [group[row].request.sampling for row in rows]
            tokens = sample_tokens(logits, samplings, [float(chances[row].random()) for row in rows])
            weights = logprobs_of(logits, tokens).tolist() if logprobs else None
            for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
                if group[row].stop_reason is None:
                    self._accept(group[row], token, weights[place] if weights is not None else None)
                    if group[row].stop_reason is not None:
                        self.decoder.rest(place)
            yield
            if self._working_on is not group:
                raise RuntimeError("this engine began another request meanwhile; it works on one call at a time")
            going = [place for place, row in enumerate(rows) if group[row].stop_reason is None]
            if not going:
                return
            if len(going) <= (1 - _ENDED_SHARE) * len(rows):
                self.decoder.keep(going)
                rows, tokens = [rows[place] for place in going], tokens[going]
            logits = self.decoder.step(tokens)

    def _accept(self, answer: Answer, token: int, logprob: float | None) -> None:
        """Append one token to an answer, and say whether that ends it."""
        answer.token_ids.append(token)
        if logprob is not None:
            answer.logprobs.append(logprob)
        sampling = answer.request.sampling
        if token in self.stop_ids:
            answer.stop_reason = self.stop_ids[token]
            return
        if answer.text is not None:
            answer.text.push(token)
            if answer.text.stopped:
                answer.stop_reason = "stop_string"
                return
        if len(answer.request.prompt_ids) + len(answer.token_ids) >= self.model.config.max_position_embeddings:
            answer.stop_reason = "context_full"
        elif len(answer.token_ids) >= sampling.max_tokens:
            answer.stop_reason = "max_tokens"


def _chances(sampling: Sampling) -> np.random.Generator:
    """Return the random stream of one request: a function of its seed alone."""
    return stream(randbits(63) if sampling.seed is None else sampling.seed, "generate")


def text_of(answer: Answer, tokenizer: Tokenizer, stop_ids: Mapping[int, StopReason]) -> str:
    """Return an answer's text: up to the id or the stop string that ended it."""
    text = TextStream(tokenizer, answer.request.prompt_ids, answer.request.sampling.stop)
    for token in answer.token_ids:
        if token not in stop_ids:
            text.push(token)
    text.finish()
    return text.text
