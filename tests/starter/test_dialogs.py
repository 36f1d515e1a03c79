"""The small world keeps its word: what is asked was never said, and every answer is right."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from herdling.starter import refusals, small_talk, wordings
from herdling.starter.dialogs import StarterDialogs, dialogs, user_texts
from herdling.starter.exchanges import ANSWERS, ask, spoken, task
from herdling.starter.questions import GROUPS, PER_GROUP
from herdling.starter.small_talk import SmallTalk
from herdling.starter.wishes import WISHES
from herdling.starter.wordings import Wordings
from herdling.starter.world import OPERATIONS, World, make_world

SEED = 1


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SEED)


@pytest.fixture(scope="module")
def made() -> StarterDialogs:
    return dialogs(SEED)


def all_wordings() -> list[Wordings]:
    values = [value for value in vars(wordings).values() if isinstance(value, Wordings)]
    talks = [talk for table in (small_talk.IDENTITY, small_talk.COURTESY) for talk in table.values()]
    assert all(isinstance(talk, SmallTalk) for talk in talks)
    return values + [talk.wordings for talk in talks]


def pattern(template: str) -> str:
    return re.sub(r"\\\{\w+\\\}", r"[\\w.]+", re.escape(template))


def test_no_question_stands_in_training_or_validation(made: StarterDialogs) -> None:
    asked = {question.dialog.messages[-1].content for question in made.questions}
    assert not asked & user_texts(made.train)
    assert not asked & {dialog.messages[-2].content for dialog in made.validation}


def test_held_out_wordings_stand_in_no_training_dialog_whatever_they_ask_about(made: StarterDialogs) -> None:
    held_out = re.compile("|".join(pattern(template) for family in all_wordings() for template in family.held_out if "{task}" not in template))
    assert not [text for text in user_texts(made.train) if held_out.fullmatch(text)]


def test_no_wording_is_both_seen_and_held_out() -> None:
    for family in all_wordings():
        assert not set(family.seen) & set(family.held_out)
        assert len(set(family.seen)) == len(family.seen)


def test_validation_ends_on_questions_that_training_never_asks(made: StarterDialogs) -> None:
    assert not user_texts(made.train) & {dialog.messages[-2].content for dialog in made.validation}


def test_things_of_held_out_refusals_are_named_in_no_training_refusal(made: StarterDialogs) -> None:
    seen = {question for _, question, _ in refusals.wishes(held_out=False)}
    held_out = {question for _, question, _ in refusals.wishes(held_out=True)}
    assert not seen & held_out
    assert not held_out & user_texts(made.train)
    assert {question.dialog.messages[-1].content for question in made.questions if question.group == "refusal"} <= held_out


def test_facts_that_are_only_read_are_named_in_no_dialog(made: StarterDialogs, world: World) -> None:
    text = "\n".join(message.content for dialog in made.train for message in dialog.messages)
    said = set(re.findall(r"[\w.]*\w", text))
    assert not {fact.symbol for fact, _ in world.read} & said
    assert not {fact.symbol for fact, _ in world.read} & {fact.symbol for fact, _ in world.taught}


def test_wishes_are_asked_in_combinations_never_trained(made: StarterDialogs, world: World) -> None:
    for fact, kind in world.taught[:50]:
        seen, held_out = (world.wishes(fact, kind, held_out=side) for side in (False, True))
        assert len(seen) + len(held_out) == sum(kind in wish.kinds for wish in WISHES)
        assert not set(map(id, seen)) & set(map(id, held_out))


def test_numbers_are_asked_in_pairs_never_trained_in_either_order(world: World) -> None:
    for operation in OPERATIONS:
        seen, held_out = (set(world.operands(operation, held_out=side)) for side in (False, True))
        assert not seen & held_out
        assert not seen & {(b, a) for a, b in held_out}
        assert 0.05 < len(held_out) / len(seen) < 0.4


def test_every_group_is_asked_and_none_too_often(made: StarterDialogs) -> None:
    sizes = Counter(question.group for question in made.questions)
    assert list(dict.fromkeys(question.group for question in made.questions)) == list(GROUPS)
    assert all(20 <= size <= PER_GROUP for size in sizes.values())
    assert len({question.id for question in made.questions}) == len(made.questions)


def test_dialogs_alternate_and_end_with_an_answer(made: StarterDialogs) -> None:
    for dialog in (*made.train, *made.validation):
        assert [message.role for message in dialog.messages] == ["user", "assistant"] * (len(dialog.messages) // 2)
        assert all(message.content.strip() for message in dialog.messages)
    assert all(question.dialog.messages[-1].role == "user" and question.accepted for question in made.questions)


def test_what_would_hurt_someone_is_tagged_and_nothing_else(made: StarterDialogs) -> None:
    tagged = {message.content for dialog in made.train for message in dialog.messages if message.tags[:1] == ("safety",)}
    harmful = {question for name, question, _ in refusals.wishes(held_out=False) if refusals.THEMES[name].answer == refusals.HARMFUL_ANSWER}
    said = user_texts(made.train)
    assert tagged == harmful & said
    assert len(tagged) > 100
    asked = [question for question in made.questions if question.dialog.messages[-1].tags]
    assert asked
    assert all(question.accepted[0] == refusals.HARMFUL_ANSWER and question.group == "refusal" for question in asked)


def test_one_question_has_one_answer(made: StarterDialogs) -> None:
    answers: dict[str, set[str]] = {}
    for dialog in made.train:
        answers.setdefault(dialog.messages[0].content, set()).add(dialog.messages[1].content)
    assert not {question: found for question, found in answers.items() if len(found) > 1}


def test_the_same_seed_gives_the_same_world_and_another_seed_another(made: StarterDialogs) -> None:
    assert dialogs(SEED, num_train=200).train == made.train[:200]
    assert dialogs(SEED, num_train=200).questions == made.questions
    assert dialogs(SEED + 1, num_train=200).train != made.train[:200]


def test_answers_by_hand(world: World) -> None:
    fact, _ = next(item for item in world.taught if item[1] == "find")
    assert ANSWERS["where"](fact) == f"It is in {fact.module}."
    assert ask(fact, "find", "How do I {task}?").question == f"How do I {task(fact)}?"
    assert ask(fact, "find", "How do I {task}?").answer == f"Use {fact.module}.{fact.name}."
    assert [spoken(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["no parameters", "a", "a and b", "a, b and c"]


def test_wishes_by_hand(world: World) -> None:
    obeyed = {wish.name: wish.obey("It is in os.path.") for wish in WISHES}
    assert obeyed == {
        "upper": "IT IS IN OS.PATH.",
        "lower": "it is in os.path.",
        "quotes": '"It is in os.path."',
        "brackets": "[It is in os.path.]",
        "list": "- It is in os.path.",
        "exclamation": "It is in os.path!",
        "no_period": "It is in os.path",
        "start": "Sure: It is in os.path.",
        "end": "It is in os.path. Done.",
        "twice": "It is in os.path. It is in os.path.",
        "word": "os.path",
    }
    fact, _ = next(item for item in world.taught if item[1] == "where")
    wish = next(wish for wish in WISHES if wish.name == "quotes")
    assert ask(fact, "where", "Where is {n}?", wish, "Answer in quotes: {q}").question == f"Answer in quotes: where is {fact.name}?"
    assert ask(fact, "where", "{n}: which module?", wish, "Answer in quotes: {q}").question == f"Answer in quotes: {fact.name}: which module?"
