"""`herdling annotate` as a user meets it: the link, what it refuses, rounds closed without the page."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from herdling.base.errors import SettingsError
from herdling.checkpoint.huggingface import save_model
from herdling.cli.annotate import openers, place_of, read_campaign, run_models
from herdling.preference.judgements import Judgement
from herdling.preference.store import Store
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Completion, Message
from tests.generate.toy_model import toy_model, toy_tokenizer
from tests.made_run import make_run

HERDLING = [sys.executable, "-c", "from herdling.cli.main import main; main()"]


def herdling(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HERDLING, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


@contextmanager
def serving(*arguments: str, cwd: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command until the block ends; give the link that it printed."""
    process = subprocess.Popen([*HERDLING, "annotate", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@contextmanager
def opened(link: str) -> Iterator[httpx.Client]:
    """Open a link as soon as the server listens."""
    with httpx.Client(follow_redirects=True) as client:
        for _ in range(200):
            try:
                client.get(link).raise_for_status()
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                break
        else:
            raise AssertionError("the server does not answer")
        yield client


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Two small chat models, with room for answers that never end by themselves, as arguments."""
    tokenizer = toy_tokenizer()
    for seed, name in ((1, "old"), (2, "new")):
        save_model(tmp_path / name, toy_model(seed, max_position_embeddings=512), tokenizer, chat_format(tokenizer, "llama3.1"))
    return ["--model", f"old={tmp_path / 'old'}", "--model", f"new={tmp_path / 'new'}"]


def test_the_printed_link_logs_in_once_and_the_same_command_goes_on(tmp_path: Path, models: list[str]) -> None:
    with serving("team", *models, "--port", "0", cwd=tmp_path) as (link, process):
        with opened(link) as client:
            assert "Judge answers" in client.get(link).text
            assert "helpful" in client.get(link.partition("/enter")[0]).text
        assert httpx.get(link).status_code == 403
        torch = [line for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines() if "libtorch" in line] if sys.platform == "linux" else []
        assert torch == []  # no model was asked yet
    assert (tmp_path / "team/preferences/local-admin-secret").stat().st_mode & 0o077 == 0
    with serving("team", "--port", "0", cwd=tmp_path) as (link, _), opened(link) as client:
        assert "helpful" in client.get(link.partition("/enter")[0]).text


def test_a_prompt_is_answered_by_the_models_that_were_named(tmp_path: Path, models: list[str]) -> None:
    with serving("team", *models, "--port", "0", cwd=tmp_path) as (link, _), opened(link) as client:
        base = f"{link.partition('/enter')[0]}/annotate/helpful"
        token = client.get(base).text.partition('data-csrf="')[2][:64]
        headers = {"x-csrf-token": token}
        task = client.post(f"{base}/prompt", json={"text": "which module?", "key": "p"}, headers=headers).json()["task"]
        answers = client.post(f"{base}/answers", json={"task": task["task"], "lease": task["lease"]}, headers=headers, timeout=120)
        assert answers.status_code == 200, answers.text
        assert set(answers.json()) == {"left", "right"}


def test_a_team_s_first_admin_is_set_up_by_the_link(tmp_path: Path, models: list[str]) -> None:
    with serving("team", *models, "--port", "0", "--team", cwd=tmp_path) as (link, _), opened(link) as client:
        assert "/join/" in link
        assert "Make your account" in client.get(link).text


def judged(folder: Path, campaign: str = "helpful") -> None:
    """Judge a few prompts of a store without the page."""
    store = Store(f"sqlite:///{folder / 'preferences.db'}")
    user = store.accounts.add("bob", "a long enough one", "annotator")
    for number in range(3):
        held = store.tasks.write_prompt(campaign, user.id, f"Question {number}?", key=f"p{number}")
        texts = [Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn") for text in ("One.", "Two.")]
        held = store.tasks.fill(held.task, user.id, held.lease, (texts[0], texts[1]))
        store.judgements.submit(held.task, user.id, held.lease, Judgement(side="left", rating="better"), key=f"j{number}")
    store.close()


def test_a_round_is_closed_without_the_page_and_closing_again_says_that_nothing_is_new(tmp_path: Path, models: list[str]) -> None:
    (tmp_path / "c.toml").write_text('name = "helpful"\nkind = "helpfulness"\n')
    with serving("team", *models, "--campaign", "c.toml", "--port", "0", cwd=tmp_path):
        pass
    judged(tmp_path / "team/preferences")
    done = herdling("annotate", "team", "--close-round", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.strip()
    assert json.loads((folder / "manifest.json").read_text())["output"] == "comparisons"
    again = herdling("annotate", "team", "--close-round", cwd=tmp_path)
    assert again.returncode == 1
    assert "error:" in again.stderr
    assert "Traceback" not in again.stderr


def test_prompts_and_hidden_items_come_from_files_and_what_is_unusable_is_counted(tmp_path: Path, models: list[str]) -> None:
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt": "Why?"}\n{"prompt": "Why?"}\n{"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]}\n'
    )
    with serving("team", *models, "--port", "0", "--prompts", "prompts.jsonl", cwd=tmp_path) as (link, _):
        assert link
    store = Store(f"sqlite:///{tmp_path / 'team/preferences/preferences.db'}")
    assert store.campaigns.num_waiting("helpful") == 2
    store.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: is not there"),
        (["."], "holds no finished chat model"),
        ([".", "--model", "old"], "expected NAME=PATH"),
        ([".", "--campaign", "none.toml"], "no such campaign file"),
        ([".", "--close-round"], "has no campaign yet"),
        ([".", "--store", "mysql://x"], "expected sqlite"),
    ],
)
def test_a_wrong_call_says_what_and_how_to_mend_it(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = herdling("annotate", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path, models: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        done = herdling("annotate", "team", *models, "--port", str(taken.getsockname()[1]), cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot listen there" in done.stderr


def test_a_run_s_chat_models_are_its_variants_and_its_export_is_not_another(tmp_path: Path) -> None:
    make_run(tmp_path)
    manifests = {path: json.loads(path.read_text()) for path in sorted((tmp_path / "quickstart").glob("*/manifest.json"))}
    for path, manifest in manifests.items():
        path.write_text(json.dumps(manifest | {"chat_template": "t" if path.parent.name in ("sft", "export") else None}))
    assert run_models(tmp_path / "quickstart") == {"sft": str(tmp_path / "quickstart/sft")}


def test_a_campaign_s_file_fills_in_what_it_does_not_name_and_refuses_what_it_misnames(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "safe"\nkind = "safety"\n')
    config = read_campaign(path, tmp_path, {"far": "http://127.0.0.1:1/v1#big", "near": "models/near"})
    assert "unsafe" in config.guidelines
    assert [place_of(variant) for variant in config.models.values()] == ["http://127.0.0.1:1/v1#big", "models/near"]
    path.write_text('name = "safe"\nkind = "safety"\nstile = "llama3"\n')
    with pytest.raises(SettingsError, match="did you mean 'style'"):
        read_campaign(path, tmp_path, {"a": "x", "b": "y"})


def test_one_name_for_two_models_is_refused(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'p.db'}")
    for name, place in (("one", "a"), ("two", "b")):
        path = tmp_path / f"{name}.toml"
        path.write_text(f'name = "{name}"\nkind = "helpfulness"\n')
        store.campaigns.put(read_campaign(path, tmp_path, {"m": place, "n": "c"}))
    with pytest.raises(SettingsError, match="'m' is b, in another campaign a"):
        openers(store)
    store.close()


def test_the_key_of_a_server_comes_from_the_environment_and_from_no_argument() -> None:
    help_text = herdling("annotate", "--help", cwd=Path(os.getcwd())).stdout
    assert "api-key" not in help_text
