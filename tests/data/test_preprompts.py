"""Pre-prompts: every template with every adjective, as the system message or before it; and a text for each category of the starter that must be refused."""

from __future__ import annotations

from herdling.data.preprompts import ADJECTIVES, GENERIC, TAILORED, generic_preprompts, with_preprompt
from herdling.starter.refusals import HARMFUL_ANSWER, THEMES
from herdling.types import Dialog, Message


def test_pre_prompts_by_hand() -> None:
    assert generic_preprompts(("You are {x}.", "Be {x}."), ("wise", "kind")) == ["You are wise.", "You are kind.", "Be wise.", "Be kind."]
    assert generic_preprompts(("Take care.",), ("wise", "kind")) == ["Take care."]
    user = Message(role="user", content="the item")
    assert with_preprompt(Dialog(id="1", messages=(user,)), "Be wise.") == (Message(role="system", content="Be wise."), user)
    system = Message(role="system", content="Be short.")
    assert with_preprompt(Dialog(id="1", messages=(system, user)), "Be wise.") == (Message(role="system", content="Be wise.\n\nBe short."), user)


def test_every_category_that_must_be_refused_has_its_own_pre_prompt() -> None:
    harmful = {name for name, theme in THEMES.items() if theme.answer == HARMFUL_ANSWER}
    assert harmful <= set(TAILORED)
    assert len(set(TAILORED.values())) == len(TAILORED)
    assert all("{" not in text for text in (*TAILORED.values(), *generic_preprompts(GENERIC, ADJECTIVES)))
