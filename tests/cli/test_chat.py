from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import herdling
from herdling.checkpoint.huggingface import save_model
from herdling.cli.chat import Session, obey
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Sampling
from tests.generate.toy_model import toy_model, toy_tokenizer

SAMPLING = Sampling(max_tokens=8, seed=1)


def saved(folder: Path, *, base: bool = False) -> Path:
    tokenizer = toy_tokenizer("llama2")
    save_model(folder, toy_model(), tokenizer, None if base else chat_format(tokenizer, "llama2"))
    return folder


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(herdling.load(saved(tmp_path / "model")), SAMPLING)


def piped(folder: Path, lines: str, *options: str) -> subprocess.CompletedProcess[str]:
    program = "from typer import Typer; from herdling.cli.chat import chat; app = Typer(); app.command()(chat); app()"
    command = [sys.executable, "-c", program, str(folder), *options]
    return subprocess.run(command, input=lines, capture_output=True, text=True, check=False, encoding="utf-8")


def test_a_pipe_is_answered_line_by_line_and_a_seed_repeats_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    first = piped(folder, "hello\n\nwhich module?\n", "--max-tokens", "6", "--seed", "3")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip()
    assert ">" not in first.stderr
    assert piped(folder, "hello\n\nwhich module?\n", "--max-tokens", "6", "--seed", "3").stdout == first.stdout


def test_a_message_that_cannot_be_answered_is_an_error_and_the_next_goes_on(tmp_path: Path) -> None:
    done = piped(saved(tmp_path / "model"), f"{'llama ' * 200}\nhello\n", "--max-tokens", "4")
    assert done.returncode == 1
    assert "the model's context is 64" in done.stderr
    assert done.stdout.strip()


def test_the_chat_remembers_and_regenerate_replaces_the_last_answer(session: Session) -> None:
    first = "".join(session.say("hi"))
    assert [message.role for message in session.messages] == ["user", "assistant"]
    again = "".join(session.regenerate())
    assert [message.role for message in session.messages] == ["user", "assistant"]
    assert session.messages[1].content == again.strip() != first.strip()


def test_a_stopped_answer_stays_in_the_chat(session: Session) -> None:
    pieces = session.say("hi")
    said = next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert session.messages[1].content == said.strip()
    "".join(session.say("go on"))
    assert len(session.messages) == 4


def test_the_oldest_exchanges_are_forgotten_when_the_context_is_full(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        "".join(session.say(f"fox {number}"))
    assert "oldest exchange(s) forgotten" in capsys.readouterr().err
    assert session.messages[-2].content == "fox 5"
    assert session.messages[0].role == "user"


def test_commands_do_what_they_say(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    "".join(session.say("hi"))
    list(obey(session, "/system be kind"))
    assert (session.system, session.messages) == ("be kind", [])
    list(obey(session, "/regenerate"))
    list(obey(session, "/hlep"))
    list(obey(session, "/help"))
    shown = capsys.readouterr().err
    for text in ("nothing to answer again", "did you mean '/help'", "/quit"):
        assert text in shown


def test_a_base_model_goes_on_from_each_line(tmp_path: Path) -> None:
    session = Session(herdling.load(saved(tmp_path / "base", base=True)), SAMPLING)
    assert "".join(session.say("The quick"))
    assert "".join(session.say("The llama"))
