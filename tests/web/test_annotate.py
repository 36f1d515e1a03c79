from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import ASGIApp

from herdling.base.comparison_records import comparison_from_row
from herdling.preference.store import Store
from herdling.types import Comparison, Completion, Dialog, Message
from herdling.web.desk import Desk
from tests.web.toy_campaign import GUIDELINES, SECRET_WORDS, toy_config
from tests.web.toy_client import Person


def choice(held: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"task": held["task"], "lease": held["lease"], "key": f"judge {held['lease']}", "choice": 2, **changes}


def test_a_prompt_is_answered_judged_and_counted(bob: Person, store: Store) -> None:
    held = bob.judging()
    assert held["left"] != held["right"]
    assert "sky blue" in held["left"]
    assert bob.told("helpful", "judge", **choice(held, choice=7, seconds=1.0))["can_proceed"] is True
    begun = bob.told("helpful", "start")
    assert begun["num_judged"] == 1
    line = begun["history"][0]
    assert (line["task"], line["prompt"], line["choice"], line["can_undo"]) == (held["task"], "Why is the sky blue?", 7, True)


def test_all_eight_keys_mean_a_side_and_a_level(bob: Person, store: Store) -> None:
    for key in range(1, 9):
        bob.told("helpful", "judge", **choice(bob.judging(prompt=f"Question {key}?"), choice=key))
    user = next(user for user in store.accounts.users() if user.name == "bob")
    said = [(done.judgement.side, done.judgement.rating) for done in reversed(store.judgements.history("helpful", user.id))]
    levels = ["significantly", "better", "slightly", "negligibly"]
    assert said == [("left", level) for level in levels] + [("right", level) for level in reversed(levels)]


@pytest.mark.parametrize("key", [0, 9, -1])
def test_a_key_off_the_scale_is_refused_and_nothing_is_stored(bob: Person, key: int) -> None:
    held = bob.judging()
    response = bob.ask("helpful", "judge", **choice(held, choice=key))
    assert (response.status_code, response.json()["reason"]) == (400, "rating outside the scale")
    assert bob.told("helpful", "start")["num_judged"] == 0


def test_nothing_that_an_annotator_gets_names_a_model_a_temperature_or_a_seed(bob: Person) -> None:
    seen = [bob.http.get("/").text, bob.http.get("/annotate/helpful").text]
    task = bob.told("helpful", "prompt", text="hello", key="p")
    answers = bob.told("helpful", "answers", task=task["task"]["task"], lease=task["task"]["lease"])
    judged = bob.told("helpful", "judge", **choice(task["task"]))
    undone = bob.told("helpful", "undo", task=task["task"]["task"], key="u")
    seen += [json.dumps(part) for part in (task, answers, judged, undone, bob.told("helpful", "start"), bob.told("helpful", "next"))]
    seen.append(bob.ask("helpful", "prompt", text="broken", key="b").text)
    assert not [word for text in seen for word in (*SECRET_WORDS, "seed", "clerk", "fingerprint") if word in text]
    assert set(task["task"]) == {"task", "lease", "expires", "turn", "turns", "draft"}
    assert set(answers) == {"left", "right"}


def test_a_model_s_fault_is_told_without_its_name_and_in_full_to_admins(bob: Person, ada: Person) -> None:
    task = bob.told("helpful", "prompt", text="broken please", key="p")["task"]
    response = bob.ask("helpful", "answers", task=task["task"], lease=task["lease"])
    assert (response.status_code, response.json()["reason"]) == (502, "model failed")
    assert "Try again" in response.json()["message"]
    assert "secret" not in response.text
    assert bob.told("helpful", "next")["task"]["task"] == task["task"]  # still held, to try again or skip
    assert "refused with 503: out of memory. Start it again" in ada.http.get("/dashboard/helpful").text


def test_equal_answers_are_sampled_again_and_then_refused_by_name(bob: Person, store: Store) -> None:
    for prompt, reason in (("same", "equal responses"), ("silence", "empty response"), ("overflow", "dialog too long")):
        task = bob.told("helpful", "prompt", text=prompt, key=prompt)["task"]
        response = bob.ask("helpful", "answers", task=task["task"], lease=task["lease"])
        assert (response.status_code, response.json()["reason"]) == (409, reason)
        bob.told("helpful", "skip", task=task["task"], lease=task["lease"], reason="no answers", key=f"skip {prompt}")


def test_the_same_submission_twice_counts_once(bob: Person) -> None:
    body = choice(bob.judging())
    first, second = bob.told("helpful", "judge", **body), bob.told("helpful", "judge", **body)
    assert first == second
    assert bob.told("helpful", "start")["num_judged"] == 1
    other = bob.ask("helpful", "judge", **{**body, "choice": 8})
    assert (other.status_code, other.json()["reason"]) == (409, "key reused")


def test_the_same_prompt_key_twice_is_one_task_and_answers_asked_twice_are_the_same(bob: Person) -> None:
    first, second = (bob.told("helpful", "prompt", text="hello", key="p")["task"] for _ in range(2))
    assert first == second
    answers = [bob.told("helpful", "answers", task=first["task"], lease=first["lease"]) for _ in range(2)]
    assert answers[0] == answers[1]


def test_another_s_task_can_be_neither_seen_judged_skipped_nor_undone(bob: Person, cleo: Person) -> None:
    held = bob.judging()
    hold = {"task": held["task"], "lease": held["lease"]}
    requests: dict[str, dict[str, Any]] = {"answers": hold, "judge": choice(held), "skip": {**hold, "reason": "r", "key": "s"}}
    requests |= {
        "draft": {**hold, "draft": {}},
        "heartbeat": hold,
        "undo": {"task": held["task"], "key": "u"},
        "prompt": {"text": "more", "key": "p", "task": held["task"]},
    }
    for name, body in requests.items():
        response = cleo.ask("helpful", name, **body)
        assert response.status_code == 409, name
        assert "sky" not in response.text
    bob.told("helpful", "judge", **choice(held))
    assert cleo.told("helpful", "start") == {"num_judged": 0, "history": []}
    assert cleo.ask("helpful", "undo", task=held["task"], key="u2").json()["reason"] == "nothing to undo"


def test_a_draft_survives_a_reload_and_ends_with_the_judgement(bob: Person) -> None:
    held = bob.judging()
    draft = {"choice": 3, "seconds": 4.5, "seen": True}
    bob.told("helpful", "draft", task=held["task"], lease=held["lease"], draft=draft)
    again = bob.told("helpful", "next")["task"]
    assert (again["task"], again["draft"]) == (held["task"], draft)


def test_a_draft_that_is_far_too_long_is_refused(bob: Person) -> None:
    held = bob.judging()
    response = bob.ask("helpful", "draft", task=held["task"], lease=held["lease"], draft={"edits": {"left": "x" * 200_000}})
    assert response.status_code == 413
    assert response.json()["reason"] == "draft too long"


def test_undo_holds_the_task_again_with_what_was_said(bob: Person) -> None:
    held = bob.judging("edits")
    bob.told("edits", "judge", **choice(held, choice=6, edit="Better still."))
    back = bob.told("edits", "undo", task=held["task"], key="u")["task"]
    assert back["task"] == held["task"]
    assert (back["draft"]["choice"], back["draft"]["edit"]) == (6, "Better still.")
    assert bob.told("edits", "start")["num_judged"] == 0
    bob.told("edits", "judge", **choice(back, key="again", choice=1))
    assert bob.told("edits", "start")["history"][0]["choice"] == 1


def test_a_conversation_goes_on_with_the_chosen_answer_or_its_edit(bob: Person) -> None:
    for campaign, said in (("helpful", {}), ("edits", {"edit": "Better still."})):
        held = bob.judging(campaign)
        bob.told(campaign, "judge", **choice(held, choice=8, **said))
        more = bob.told(campaign, "prompt", text="And at night?", key=f"more {campaign}", task=held["task"])["task"]
        assert more["turn"] == 2
        expected = [
            {"role": "user", "text": "Why is the sky blue?"},
            {"role": "assistant", "text": said.get("edit", held["right"])},
            {"role": "user", "text": "And at night?"},
        ]
        assert more["turns"] == expected
        assert "And at night?" in bob.told(campaign, "answers", task=more["task"], lease=more["lease"])["left"]


def test_a_safety_campaign_demands_the_label_and_a_helpfulness_campaign_refuses_it(bob: Person) -> None:
    held = bob.judging("safe", "How do I pick a lock?")
    assert bob.ask("safe", "judge", **choice(held)).json()["reason"] == "safety label missing"
    assert bob.ask("safe", "judge", **choice(held, safety="rather safe")).status_code == 400
    for label in ("chosen safe", "both safe", "both unsafe"):
        bob.told("safe", "judge", **choice(held, key=label, safety=label))
        held = bob.told("safe", "undo", task=held["task"], key=f"undo {label}")["task"]
        assert held["draft"]["safety"] == label
    helpful = bob.judging("helpful")
    assert bob.ask("helpful", "judge", **choice(helpful, safety="both safe")).json()["reason"] == "safety label out of place"


def test_an_edit_belongs_to_llama3_campaigns_and_has_to_change_something(bob: Person) -> None:
    held = bob.judging("helpful")
    assert bob.ask("helpful", "judge", **choice(held, edit="Better.")).json()["reason"] == "edit out of place"
    held = bob.judging("edits")
    unchanged = bob.ask("edits", "judge", **choice(held, choice=2, edit=held["left"]))
    assert unchanged.json()["reason"] == "edit changes nothing"
    assert bob.told("edits", "start")["num_judged"] == 0


def test_a_skipped_task_goes_to_others_with_its_reason_and_does_not_come_back(bob: Person, cleo: Person, ada: Person) -> None:
    task = bob.told("queue", "next")["task"]
    hold = {"task": task["task"], "lease": task["lease"]}
    assert bob.ask("queue", "skip", **hold, reason=" ", key="s").json()["reason"] == "reason missing"
    bob.told("queue", "skip", **hold, reason="upsets me", key="s2")
    assert bob.told("queue", "next")["task"]["task"] != task["task"]
    assert cleo.told("queue", "next")["task"]["turns"] == task["turns"]
    assert "upsets me" in ada.http.get("/dashboard/queue").text


def test_two_annotators_never_hold_the_same_place(bob: Person, cleo: Person) -> None:
    assert bob.told("queue", "next")["task"]["turns"] != cleo.told("queue", "next")["task"]["turns"]


def test_own_prompts_are_refused_where_the_queue_is_all(bob: Person) -> None:
    assert bob.ask("queue", "prompt", text="mine", key="p").json()["reason"] == "own prompts are off"
    assert bob.ask("helpful", "prompt", text=" ", key="p").json()["reason"] == "empty prompt"


def test_a_lease_that_ran_out_is_refused_and_can_be_taken_again(bob: Person, store: Store) -> None:
    held = bob.judging()
    stale = {"task": held["task"], "lease": "another lease"}
    for name, body in {"heartbeat": stale, "answers": stale, "judge": choice(held, lease="another lease"), "draft": {**stale, "draft": {}}}.items():
        response = bob.ask("helpful", name, **body)
        assert (response.status_code, response.json()["reason"]) == (409, "stale lease"), name
    again = bob.told("helpful", "next")["task"]
    bob.told("helpful", "judge", **choice(again))


def test_guidelines_are_markdown_and_never_html(bob: Person) -> None:
    text = bob.http.get("/annotate/helpful").text
    assert "<em>helps</em>" in text
    assert "<script>alert" in GUIDELINES
    assert "<script>alert" not in text


def test_hidden_items_look_like_all_others_and_take_as_long(bob: Person, desk: Desk, store: Store) -> None:
    answers = tuple(Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn") for text in ("Good.", "Bad."))
    gold = Comparison(id="g", dialog=Dialog(id="g", messages=(Message(role="user", content="Gold?"),)), responses=answers, ranking=(0, 1), rating="better")
    store.campaigns.put(toy_config("golden", gold_share=0.5, own_prompts=False))
    store.campaigns.add_gold("golden", [gold])
    store.campaigns.add_prompts("golden", [Dialog(id=f"{n}", messages=(Message(role="user", content=f"slow {n}?"),)) for n in range(20)], source="toy")
    seen = {}
    while "Gold?" not in seen:
        held = bob.told("golden", "next")["task"]
        begun = desk.sampler.usual_seconds
        response = bob.ask("golden", "answers", task=held["task"], lease=held["lease"])
        seen[held["turns"][-1]["text"]] = (set(held), response.elapsed.total_seconds(), begun)
        bob.told("golden", "judge", **choice(held))
    keys, elapsed, usual = seen.pop("Gold?")
    if seen:  # something was sampled before: the hidden item waits as long
        assert usual > 1
        assert elapsed > 0.9 * usual
    assert all(keys == other for other, *_ in seen.values())


def test_every_page_and_request_of_the_work_needs_a_session(app: ASGIApp) -> None:
    stranger = Person(app)
    assert stranger.http.get("/annotate/helpful").headers["location"] == "/login"
    response = stranger.ask("helpful", "next", token="x")
    assert (response.status_code, response.json()["reason"]) == (401, "not logged in")


def test_an_unknown_campaign_is_named(bob: Person) -> None:
    response = bob.http.get("/annotate/nothing")
    assert response.status_code == 404
    assert "Unknown campaign" in response.text
    assert bob.ask("nothing", "next", token=bob.token("/annotate/helpful")).status_code == 404


def test_a_judged_round_becomes_comparisons_with_models_temperatures_and_pseudonyms(bob: Person, ada: Person, store: Store, desk: Desk) -> None:
    for number in range(3):
        bob.told("helpful", "judge", **choice(bob.judging(prompt=f"Question {number}?"), choice=1 + number))
    folder = store.rounds.close("helpful", desk.rounds).folder
    rows = [json.loads(line) for name in ("train", "test") for line in (folder / "comparisons" / f"{name}.jsonl").read_text().splitlines()]
    found = [comparison_from_row(row, "row") for row in rows]
    assert {response.model for one in found for response in one.responses} == {"large-secret", "small-secret"}
    assert {response.sampling.temperature for one in found for response in one.responses if response.sampling} == {0.71, 1.13}
    assert {one.annotator for one in found} == {next(user.pseudonym for user in store.accounts.users() if user.name == "bob")}
    assert not any(one.simulated for one in found)
