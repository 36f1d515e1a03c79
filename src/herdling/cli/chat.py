"""`herdling chat MODEL`: talk to a model in the terminal, or through a pipe with one message a line. A base model goes on from what is typed.

Answers go to stdout as they are written, everything else to stderr. Ctrl-C stops the answer, not the program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import randbits
from typing import TYPE_CHECKING, Annotated

import typer

from herdling.base.errors import HerdlingError, did_you_mean
from herdling.base.seeds import stream_seed
from herdling.types import Message, Sampling

if TYPE_CHECKING:
    from herdling.generate.loaded import LoadedModel

HELP = """/regenerate      answer the last message again
/system TEXT     set the system prompt (without text: none) and begin anew
/reset           forget the chat, keep the system prompt
/help            this list
/quit            leave (also Ctrl-D); Ctrl-C stops an answer"""
COMMANDS = ("/regenerate", "/system", "/reset", "/help", "/quit")


def chat(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, a run's folder (its newest model), or a llama2.c .bin file.")],
    system: Annotated[str, typer.Option("--system", help="The system prompt.")] = "",
    temperature: Annotated[float, typer.Option("--temperature", help="0 always takes the likeliest token.")] = 0.6,
    top_p: Annotated[float, typer.Option("--top-p", help="Draw from the likeliest tokens that hold this share of the mass.")] = 0.9,
    top_k: Annotated[int, typer.Option("--top-k", help="Draw from this many likeliest tokens; 0: no limit.")] = 0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longest answer.")] = 256,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes a chat repeatable.")] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="A tokenizer that does not lie beside the model.")] = None,
) -> None:
    """Talk to a model."""
    from herdling.generate.loaded import load

    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens, seed=seed)
    session = Session(load(path, tokenizer=tokenizer), sampling, system)
    failed = talk(session, interactive=sys.stdin.isatty())
    if failed:
        raise typer.Exit(1)


class Session:
    """A chat as it goes on: the model, the messages so far, the system prompt."""

    def __init__(self, model: LoadedModel, sampling: Sampling, system: str = "") -> None:
        self.model = model
        self.sampling = sampling
        self.system = system
        self.messages: list[Message] = []
        self.num_answers = 0
        self.note = ""
        """What the last answer leaves to say: why it was cut, what was forgotten."""

    def say(self, text: str) -> Iterator[str]:
        """Take a message of the user; yield the answer's pieces. Closed early, what was said so far stays in the chat."""
        self.messages.append(Message(role="user", content=text))
        try:
            yield from self._answer()
        except HerdlingError:
            self.messages.pop()  # it was never answered: the chat goes on as if it had not been said
            raise

    def regenerate(self) -> Iterator[str]:
        """Answer the last message of the user again."""
        if self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()
        if self.messages:
            yield from self._answer()

    def reset(self) -> None:
        """Forget the chat, keep the system prompt."""
        self.messages.clear()

    def _answer(self) -> Iterator[str]:
        self.note = ""
        self.num_answers += 1
        first = randbits(63) if self.sampling.seed is None else self.sampling.seed
        sampling = replace(self.sampling, seed=stream_seed(first, "chat", self.num_answers))
        if not self.model.can_chat:
            yield from self.model.stream(self.messages[-1].content, sampling)
            return
        stream = self.model.stream_chat(self._fitting(), sampling)
        try:
            yield from stream
        except (GeneratorExit, KeyboardInterrupt):
            self.messages.append(stream.completion.message)
            raise
        completion = stream.completion
        self.messages.append(completion.message)
        if completion.stop_reason == "max_tokens":
            self.note = f"cut at {sampling.max_tokens:,} tokens; --max-tokens raises that"
        elif completion.stop_reason == "context_full":
            self.note = f"cut at the model's context of {self.model.config.max_position_embeddings:,} tokens; /reset makes room"

    def _fitting(self) -> list[Message]:
        """Forget the oldest exchanges until an answer has room; return what the model is to read."""
        context = self.model.config.max_position_embeddings
        room = min(self.sampling.max_tokens, context // 4)
        head = [Message(role="system", content=self.system)] if self.system else []
        forgotten = 0
        while len(self.messages) > 2 and self.model.chat_length([*head, *self.messages]) > context - room:
            del self.messages[:2]
            forgotten += 1
        if forgotten:
            print(f"[{forgotten} oldest exchange(s) forgotten: the chat outgrew the model's context of {context:,} tokens]", file=sys.stderr)
        return [*head, *self.messages]


def talk(session: Session, *, interactive: bool) -> bool:
    """Read messages and commands until the end of the input; return whether any failed."""
    if interactive:
        greet(session)
    failed = False
    for line in read_lines(interactive):
        try:
            if line.strip() == "/quit":
                return failed
            pieces = obey(session, line.strip()) if line.startswith("/") else session.say(line)
            write(pieces)
            if session.note:
                print(f"[{session.note}]", file=sys.stderr)
        except HerdlingError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    return failed


def greet(session: Session) -> None:
    """Say what one talks to, and how."""
    kind = "" if session.model.can_chat else " It is a base model: it goes on from what you type."
    print(f"{session.model.name} ({session.model.config.num_parameters():,} parameters).{kind} /help lists commands, Ctrl-D leaves.", file=sys.stderr)


def read_lines(interactive: bool) -> Iterator[str]:
    """Yield lines that are not empty, from the keyboard (with editing and history) or from a pipe."""
    if not interactive:
        yield from (line for line in map(str.rstrip, sys.stdin) if line)
        return
    with suppress(ImportError):  # Windows has none: its console edits by itself
        import readline  # noqa: F401 (gives input() its editing and history)
    while True:
        try:
            line = input("\n> ").rstrip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n/quit or Ctrl-D leaves", file=sys.stderr)
            continue
        if line:
            yield line


def obey(session: Session, line: str) -> Iterator[str]:
    """Do what a command says; return the pieces of an answer, if it makes one."""
    command, _, rest = line.partition(" ")
    if command == "/regenerate":
        if not session.messages:
            print("there is nothing to answer again yet", file=sys.stderr)
        return session.regenerate()
    if command == "/system":
        session.system = rest.strip()
        session.reset()
        print(f"system prompt: {session.system or 'none'}. The chat begins anew", file=sys.stderr)
    elif command == "/reset":
        session.reset()
        print("the chat begins anew", file=sys.stderr)
    elif command == "/help":
        print(HELP, file=sys.stderr)
    else:
        print(f"no such command: {command}{did_you_mean(command, COMMANDS)}; /help lists them", file=sys.stderr)
    return iter(())


def write(pieces: Iterator[str]) -> None:
    """Write an answer as it comes. Ctrl-C ends it: what was written stays said."""
    written = False
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
            written = True
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        print(" [stopped]", file=sys.stderr, end="")
    if written:
        sys.stdout.write("\n")
        sys.stdout.flush()
