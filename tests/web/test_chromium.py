"""The page in a real browser: a campaign by keyboard alone, two people at once, the server killed in the middle, narrow screens, dark mode."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from herdling.base.comparison_records import read_comparisons
from herdling.preference.store import Store
from tests.web.toy_campaign import PASSWORD

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
if CHROMIUM is None:
    pytest.skip("Chromium is not installed: the page is not tried in a browser", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")


class Served:
    """The toy server as a process of its own, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.web.toy_campaign", str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        for _ in range(400):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, "the server did not start"
                time.sleep(0.1)
        raise AssertionError("the server did not answer within 40 s")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def store(self) -> Store:
        return Store(f"sqlite:///{self.folder / 'preferences.db'}")


@pytest.fixture
def served(seed_database: Path, tmp_path: Path) -> Iterator[Served]:
    for file in seed_database.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    served = Served(tmp_path)
    yield served
    served.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def enter(browser: Any, served: Served, name: str, **context: Any) -> Any:
    """Log somebody in, by keyboard; a fault in the console fails the test at its end."""
    page = browser.new_context(**context).new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(f"{served.address}/login")
    page.wait_for_selector("input[name=name]:focus")  # the page puts the cursor there by itself
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{served.address}/")
    return page


def work(page: Any, served: Served, campaign: str) -> None:
    """Open a campaign's page and close the guidelines, which open by themselves the first time."""
    page.goto(f"{served.address}/annotate/{campaign}")
    page.wait_for_selector("#composer:not([hidden]), #judging:not([hidden]), #idle:not([hidden])")
    if page.is_visible("#guidelines"):
        page.keyboard.press("Escape")  # out of the prompt's box
        page.keyboard.press("Escape")
        page.wait_for_selector("#guidelines", state="hidden")


def ask(page: Any, prompt: str) -> None:
    """Type a prompt where one is wanted, and wait for the two answers."""
    page.wait_for_selector("#composer:not([hidden])")
    if page.evaluate("document.activeElement.id") != "prompt":
        page.keyboard.press("c")
        page.wait_for_selector("#prompt:focus")
    page.keyboard.type(prompt)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#judging:not([hidden])")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def saved(page: Any, count: int) -> None:
    page.wait_for_selector(f"#progress:text-matches('^{count} judged')")
    page.wait_for_selector("#saved:not([hidden])")


def test_a_helpfulness_campaign_with_edits_and_turns_by_keyboard_alone(browser: Any, served: Served) -> None:
    page = enter(browser, served, "bob")
    work(page, served, "edits")
    ask(page, "Why is the sky blue?")
    left = page.inner_text("#left .text")
    press(page, "Enter")
    assert "Choose with the keys 1 to 8" in page.inner_text("#missing")
    press(page, "7", "2", "e")  # the other side first: a choice can be changed
    page.keyboard.press("Control+End")
    page.keyboard.type(" That is all.")
    page.keyboard.press("Control+Enter")
    saved(page, 1)
    ask(page, "And at night?")
    assert page.inner_text("#turns .assistant p") == left + " That is all."
    press(page, "8", "Enter")
    saved(page, 2)
    press(page, "u")  # taken back, with what was said
    page.wait_for_selector("#judging:not([hidden])")
    assert page.is_checked("input[name=choice][value='8']")
    press(page, "5", "Enter")
    saved(page, 2)
    press(page, "Enter")
    ask(page, "A third one?")
    press(page, "x", "2", "Enter")  # skipped, with a reason
    ask(page, "A fourth one?")
    press(page, "1", "Enter")
    saved(page, 3)
    assert page.faults == []
    store = served.store()
    folder = store.rounds.close("edits", served.folder / "rounds").folder
    store.close()
    found = {one.dialog.messages[-1].content: one for split in ("train", "test") for one in read_comparisons(folder, split)}
    assert set(found) == {"Why is the sky blue?", "And at night?", "A fourth one?"}
    first, second = found["Why is the sky blue?"], found["And at night?"]
    assert first.ranked[0].message.content == left + " That is all."
    assert (first.rating, second.rating, found["A fourth one?"].rating) == ("better", "negligibly", "significantly")
    assert first.edited == 2
    assert second.dialog.messages[1].content == left + " That is all."


def test_a_safety_campaign_by_keyboard_alone(browser: Any, served: Served) -> None:
    page = enter(browser, served, "bob")
    work(page, served, "safe")
    for number, key in enumerate("asd", start=1):
        ask(page, f"Tempting prompt {key}?")
        press(page, "3", "Enter")
        assert "A, S or D" in page.inner_text("#missing")
        press(page, key, "Enter")
        saved(page, number)
        press(page, "Enter")
    store = served.store()
    folder = store.rounds.close("safe", served.folder / "rounds").folder
    store.close()
    for one in (one for split in ("train", "test") for one in read_comparisons(folder, split)):
        expected = {"a": (True, False), "s": (True, True), "d": (False, False)}[one.dialog.messages[0].content[-2]]
        assert one.safe is not None
        assert tuple(one.safe[index] for index in one.ranking) == expected
    work(page, served, "helpful")
    ask(page, "Helpful?")
    assert page.query_selector("input[name=safety]") is None
    assert page.faults == []


def test_nothing_can_be_typed_into_a_box_that_is_about_to_go(browser: Any, served: Served) -> None:
    page = enter(browser, served, "bob")
    work(page, served, "safe")
    held: list[Any] = []
    page.route("**/next", lambda route: held.append(route))  # a server that says what comes next when this test lets it
    for number in (1, 2):
        ask(page, f"Prompt {number}?")
        press(page, "3", "s", "Enter")
        saved(page, number)
        page.wait_for_selector("#composer:not([hidden])")  # to go on with this conversation
        press(page, "Enter")
        page.wait_for_selector("#sampling:not([hidden])")
        assert page.is_hidden("#composer")
        assert page.is_hidden("#skip-sampling")  # there is nothing to skip yet
        while not held:
            page.wait_for_timeout(10)
        held.pop().continue_()
    assert page.faults == []


def test_two_annotators_at_once_get_different_tasks_and_see_nothing_of_each_other(browser: Any, served: Served) -> None:
    pages = [enter(browser, served, name) for name in ("bob", "cleo")]
    seen: list[str] = []
    for page in pages:
        work(page, served, "queue")
    for number in range(1, 4):
        for page in pages:
            page.wait_for_selector("#judging:not([hidden])")
            seen.append(page.inner_text("#turns .user p"))
        for page in pages:
            press(page, str(number), "Enter")
        for page in pages:
            saved(page, number)
            press(page, "Enter")
    assert len(set(seen)) == 6
    assert [page.faults for page in pages] == [[], []]


def test_a_server_killed_in_the_middle_of_a_submission_loses_nothing_and_counts_nothing_twice(browser: Any, served: Served) -> None:
    page = enter(browser, served, "bob")
    work(page, served, "edits")
    ask(page, "First?")
    press(page, "2", "e")
    page.keyboard.press("Control+End")
    page.keyboard.type(" Improved.")
    edited = page.input_value("#edit")
    served.kill()
    page.keyboard.press("Control+Enter")  # submitted to nobody
    page.wait_for_selector("#status:has-text('No connection')")
    served.start()
    saved(page, 1)
    # The reply is lost: the server stores the judgement and dies before the page hears of it.
    page.route("**/judge", lambda route: (route.fetch(), served.kill(), route.abort()))
    ask(page, "Second?")
    press(page, "3")
    press(page, "Enter")
    page.wait_for_selector("#status:has-text('No connection')")
    page.unroute("**/judge")
    served.start()
    saved(page, 2)
    page.reload()
    page.wait_for_selector("#progress:has-text('2 judged')")
    store = served.store()
    folder = store.rounds.close("edits", served.folder / "rounds").folder
    store.close()
    found = [one for split in ("train", "test") for one in read_comparisons(folder, split)]
    assert sorted(one.dialog.messages[-1].content for one in found) == ["First?", "Second?"]
    assert edited in {one.ranked[0].message.content for one in found}
    assert page.faults == []


def test_what_is_typed_outlives_reloads_and_a_kill(browser: Any, served: Served) -> None:
    page = enter(browser, served, "bob")
    work(page, served, "edits")
    page.keyboard.press("c")
    page.keyboard.type("Half a prom")
    page.reload()
    page.wait_for_selector("#composer:not([hidden])")
    assert page.input_value("#prompt") == "Half a prom"
    page.keyboard.press("Control+End")
    ask(page, "pt?")
    press(page, "6", "e")
    page.keyboard.type("Begun ")
    text = page.input_value("#edit")
    served.kill()
    served.start()
    page.reload()
    page.wait_for_selector("#editing:not([hidden])")
    assert page.input_value("#edit") == text
    assert page.is_checked("input[name=choice][value='6']")


def test_a_lost_lease_is_said_and_the_task_can_be_taken_again(browser: Any, served: Served) -> None:
    page = enter(browser, served, "bob")
    work(page, served, "edits")
    # What the server says once the lease ran out and the slot went to somebody else.
    page.route("**/judge", lambda route: route.continue_(post_data=json.dumps({**route.request.post_data_json, "lease": "of an earlier hold"})))
    ask(page, "Held?")
    press(page, "2", "e")
    page.keyboard.type("Mine ")
    text = page.input_value("#edit")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#alert:not([hidden])")
    assert "no longer hold" in page.inner_text("#alert")
    page.unroute("**/judge")
    page.focus("#alert-action")
    press(page, "Enter")
    page.wait_for_selector("#alert", state="hidden")
    page.wait_for_selector("#editing:not([hidden])")
    assert page.input_value("#edit") == text
    page.keyboard.press("Escape")
    press(page, "Enter")
    saved(page, 1)


def test_a_reviewer_sets_aside_and_puts_back_by_keyboard_alone(browser: Any, served: Served) -> None:
    bob = enter(browser, served, "bob")
    work(bob, served, "safe")
    for number, prompt in enumerate(("First?", "Second?"), start=1):
        ask(bob, prompt)
        press(bob, "2", "s", "Enter")
        saved(bob, number)
        press(bob, "Enter")
    page = enter(browser, served, "rev")
    page.goto(f"{served.address}/review/safe")
    press(page, "j", "j")  # the second one: the older
    assert "First?" in page.inner_text(".judged:focus")
    press(page, "x")
    page.keyboard.type("not read")
    press(page, "Enter")
    page.wait_for_selector(".judged.aside:focus:has-text('Set aside: not read')")  # back at what was changed
    assert "First?" in page.inner_text(".judged:focus")
    press(page, "k", "x", "Escape", "j", "b", "Enter")
    page.wait_for_selector(".judged:focus:has-text('revision 3')")
    assert page.query_selector(".judged.aside") is None
    press(page, "f")
    assert page.evaluate("document.activeElement.id") == "first-filter"
    press(page, "Escape", "?")
    assert page.is_visible("#keys-dialog")
    assert page.faults == bob.faults == []
    store = served.store()
    folder = store.rounds.close("safe", served.folder / "rounds").folder
    store.close()
    assert len([one for split in ("train", "test") for one in read_comparisons(folder, split)]) == 2


READABLE = (Path(__file__).parent / "readable.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])
def test_every_page_is_readable_fits_its_screen_and_names_its_controls(browser: Any, served: Served, scheme: str, width: int) -> None:
    page = enter(browser, served, "ada", color_scheme=scheme, viewport={"width": width, "height": 740})

    def check(where: str) -> None:
        assert page.evaluate(READABLE) == {"faint": [], "wider": 0, "unnamed": []}, where

    check("home")
    page.goto(f"{served.address}/annotate/edits")
    page.wait_for_selector("#composer:not([hidden])")
    check("guidelines")
    work(page, served, "edits")
    check("composer")
    ask(page, "A long question with averyverylongword" + "x" * 120)
    check("judging")
    press(page, "2")
    check("editing")
    press(page, "x")
    check("skip")
    press(page, "Escape", "?")
    check("keys")
    press(page, "Escape", "Enter")
    saved(page, 1)
    check("saved")
    work(page, served, "safe")
    ask(page, "Safe?")
    press(page, "7", "d")
    check("safety")
    for path in ("/dashboard/edits", "/dashboard/safe", "/review/edits", "/review/edits?task=9&rating=better", "/people", "/annotate/nothing"):
        page.goto(served.address + path)
        check(path)
    assert page.faults == []
