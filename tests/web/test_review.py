from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.types import ASGIApp

from herdling.preference.store import Store
from herdling.web.desk import Desk
from tests.web.toy_campaign import SECRET_WORDS, toy_config
from tests.web.toy_client import Person

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def rev(app: ASGIApp) -> Person:
    rev = Person(app, "192.0.2.4")
    assert rev.login("rev").status_code == 303
    return rev


def judged(who: Person, campaign: str = "helpful", prompt: str = "Why is the sky blue?", **said: Any) -> dict[str, Any]:
    held = who.judging(campaign, prompt)
    who.told(campaign, "judge", task=held["task"], lease=held["lease"], key=f"judge {held['lease']}", **{"choice": 2, **said})
    return held


def fields(page: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the first form of a page that leads to this place."""
    form = re.search(rf'<form[^>]*action="/review/\w+/{action}">(.*?)</form>', page, re.S)
    assert form, page
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[1]))


def test_a_reviewer_sees_dialog_and_choice_under_a_pseudonym_and_no_model(rev: Person, bob: Person, store: Store) -> None:
    held = judged(bob, choice=7)
    text = rev.http.get("/review/helpful").text
    assert "Right is better" in text
    assert "Why is the sky blue?" in text
    assert held["left"].split("“")[0].strip() in text
    pseudonym = next(user.pseudonym for user in store.accounts.users() if user.name == "bob")
    assert pseudonym in text
    assert "bob" not in text
    assert not [word for word in SECRET_WORDS if word in text]


def test_annotators_never_see_the_review_and_change_nothing_there(bob: Person, cleo: Person, rev: Person, app: ASGIApp) -> None:
    judged(bob)
    hidden = fields(rev.http.get("/review/helpful").text, "set-aside")
    assert cleo.http.get("/review/helpful").status_code == 403
    for action in ("set-aside", "put-back"):
        assert cleo.form("/", f"/review/helpful/{action}", **{**hidden, "csrf": cleo.token("/annotate/helpful"), "reason": "r"}).status_code == 403
    assert "/review/" not in cleo.http.get("/").text + cleo.http.get("/annotate/helpful").text
    assert Person(app).http.get("/review/helpful").headers["location"] == "/login"
    assert bob.told("helpful", "start")["num_judged"] == 1


def test_setting_aside_needs_a_reason_and_leads_back_to_the_same_filters(rev: Person, bob: Person) -> None:
    held = judged(bob)
    judged(bob, prompt="Another?", choice=5)
    where = "/review/helpful?rating=better&page=1"
    hidden = fields(rev.http.get(where).text, "set-aside")
    assert hidden["task"] == str(held["task"])
    empty = rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": "  "})
    assert (empty.status_code, "reason missing" in empty.text) == (409, True)
    assert 'value="better" selected' in empty.text
    response = rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": f"not read {HOSTILE}"})
    assert response.status_code == 303
    assert response.headers["location"].startswith("/review/helpful?rating=better&page=1#j-")
    text = rev.http.get(response.headers["location"]).text
    assert "Set aside: not read &lt;script&gt;" in text
    assert HOSTILE not in text
    again = rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": f"not read {HOSTILE}"})
    assert again.status_code == 303  # sent twice, done once
    assert bob.told("helpful", "start")["num_judged"] == 1
    back = rev.http.post("/review/helpful/put-back", data=fields(text, "put-back"))
    assert back.status_code == 303
    assert bob.told("helpful", "start")["num_judged"] == 2
    assert "revision 3" in rev.http.get(back.headers["location"]).text


def test_a_change_needs_the_token_of_the_page(rev: Person, bob: Person) -> None:
    judged(bob)
    hidden = fields(rev.http.get("/review/helpful").text, "set-aside")
    for token in ("", "0" * 64):
        assert rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": "r", "csrf": token}).status_code == 403
    assert rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": "r"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert bob.told("helpful", "start")["num_judged"] == 1


def test_what_was_judged_anew_meanwhile_is_not_set_aside_unseen(rev: Person, bob: Person) -> None:
    held = judged(bob)
    hidden = fields(rev.http.get("/review/helpful").text, "set-aside")
    again = bob.told("helpful", "undo", task=held["task"], key="undo")["task"]
    bob.told("helpful", "judge", task=again["task"], lease=again["lease"], key="again", choice=8)
    response = rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": "r"})
    assert (response.status_code, "judgement changed" in response.text) == (409, True)
    assert bob.told("helpful", "start")["num_judged"] == 1


def test_filters_pages_and_rounds_stand_in_the_address(rev: Person, bob: Person, ada: Person, store: Store, desk: Desk) -> None:
    for number in range(22):
        judged(bob, prompt=f"Question {number}?", choice=1 + number % 2)
    first = rev.http.get("/review/helpful").text
    assert "22 judgements" in first
    assert "Page 1 of 2" in first
    assert first.count("<article") == 20
    assert 'href="?page=2"' in first
    assert rev.http.get("/review/helpful?page=2").text.count("<article") == 2
    assert "Page 2 of 2" in rev.http.get("/review/helpful?page=7").text
    assert "11 judgements" in rev.http.get("/review/helpful?rating=significantly").text
    assert "No judgement of this round is like that" in rev.http.get("/review/helpful?gold=1").text
    store.rounds.close("helpful", desk.rounds)
    closed = rev.http.get("/review/helpful?round=1").text
    assert "22 judgements" in closed
    assert "This round is closed" in closed
    assert "set-aside" not in closed
    assert "0 judgements" in rev.http.get("/review/helpful").text
    assert rev.http.get("/review/helpful?round=9").status_code == 404
    assert rev.http.get("/review/nothing").status_code == 404
    for wrong in ("rating=splendid", "safety=rather", "state=lost", "task=x", "page=-1", "page=99999999999", "task=²"):
        assert rev.http.get(f"/review/helpful?{wrong}").status_code == 400, wrong
    assert ada.http.get("/review/helpful?round=1&annotator=&rating=&page=1").status_code == 200  # as the form sends what is not chosen


def test_a_closed_round_refuses_what_an_open_page_still_offers(rev: Person, bob: Person, store: Store, desk: Desk) -> None:
    judged(bob)
    judged(bob, prompt="Another?")
    hidden = fields(rev.http.get("/review/helpful").text, "set-aside")
    artifact = store.rounds.close("helpful", desk.rounds)
    response = rev.http.post("/review/helpful/set-aside", data={**hidden, "reason": "late"})
    assert (response.status_code, "round closed" in response.text) == (409, True)
    artifact.verify()


def test_disagreement_edits_turns_and_labels_are_shown(rev: Person, bob: Person, cleo: Person, store: Store) -> None:
    store.campaigns.put(toy_config("queue", own_prompts=False, overlap=2))
    for who, wanted in ((bob, True), (cleo, False)):
        held = who.told("queue", "next")["task"]
        answers = who.told("queue", "answers", task=held["task"], lease=held["lease"])
        first = min(answers.values())
        choice = 1 if (answers["left"] == first) == wanted else 8
        who.told("queue", "judge", task=held["task"], lease=held["lease"], key="k", choice=choice)
    text = rev.http.get("/review/queue?disagreed=1").text
    assert "2 judgements" in text
    assert text.count("1 chose otherwise") == 2
    held = judged(bob, "edits", choice=8, edit="Better still.")
    more = bob.told("edits", "prompt", text="And at night?", key="more", task=held["task"])["task"]
    bob.told("edits", "answers", task=more["task"], lease=more["lease"])
    bob.told("edits", "judge", task=more["task"], lease=more["lease"], key="second", choice=1)
    text = rev.http.get("/review/edits").text
    assert "Edited by the annotator" in text
    assert "Better still." in text
    assert "2 earlier messages" in text
    judged(bob, "safe", choice=3, safety="both unsafe")
    assert "Left is slightly better, both are unsafe" in rev.http.get("/review/safe?safety=both+unsafe").text


def test_reviewers_know_people_by_pseudonyms_on_the_dashboard_too_and_admins_by_name(rev: Person, ada: Person, bob: Person, store: Store) -> None:
    judged(bob)
    pseudonym = next(user.pseudonym for user in store.accounts.users() if user.name == "bob")
    assert pseudonym in rev.http.get("/dashboard/helpful").text
    assert ">bob<" not in rev.http.get("/dashboard/helpful").text
    text = ada.http.get("/dashboard/helpful").text
    assert ">bob<" in text
    assert f"/review/helpful?annotator={pseudonym}" in text
