"""K answers of a prompt: faults have names and no reward, equal answers are judged once, the best is the target, and other weights are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from herdling.base.comparison_records import comparison_from_row, comparison_to_row, fault
from herdling.base.errors import LineageError
from herdling.generate.best_of import Judged, best, judge, pair, prompt_fault, prompt_key, sample, target
from herdling.generate.gated_reward import Reward, gated
from herdling.types import Completion, Dialog, Message, Sampling, ToolCall
from tests.data.toy_comparisons import answer, question, toy_format

PROMPT = question("the item")


class Lengths:
    """Scores an answer by its number of letters, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, dialogs: Sequence[Dialog]) -> list[Reward]:
        self.asked += [dialog.messages[-1].content for dialog in dialogs]
        return [gated(float(len(dialog.messages[-1].content)), None, tagged=False) for dialog in dialogs]


class Echo:
    """Answers with the last message and the seed."""

    name = "echo"
    fingerprint = "f" * 64

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        assert not isinstance(sampling, Sampling)
        said = [replace(answer(f"{dialog.messages[-1].content} {one.seed}"), token_ids=(1, 2)) for dialog, one in zip(dialogs, sampling, strict=True)]
        return [replace(one, model_fingerprint=self.fingerprint) for one in said]


def judged(*answers: Completion) -> list[Judged]:
    return judge(Lengths(), toy_format(), 40, [PROMPT], [answers])[0]


def test_every_prompt_is_answered_once_for_each_of_its_samplings() -> None:
    other = question("the dict")
    said = sample(Echo(), [PROMPT, other], [[Sampling(seed=1), Sampling(seed=2)], [Sampling(seed=3)]], expected="f" * 64)
    assert [[one.message.content for one in own] for own in said] == [["the item 1", "the item 2"], ["the dict 3"]]
    assert {(one.model, one.model_fingerprint, one.token_ids) for own in said for one in own} == {("echo", "f" * 64, ())}


def test_answers_of_other_weights_are_refused() -> None:
    with pytest.raises(LineageError, match="came from the weights ffffffffffff, expected 000000000000"):
        sample(Echo(), [PROMPT], [[Sampling(seed=1)]], expected="0" * 64)


def test_what_cannot_be_used_has_a_named_fault_and_no_reward() -> None:
    call = Completion(message=Message(role="assistant", content="", tool_calls=(ToolCall(id="1", name="f"),)), stop_reason="end_of_message")
    faulty = (answer("a key of the", "max_tokens"), answer("a key", "context_full"), answer(" "), answer("the list of an item " * 20), call)
    found = judged(*faulty)
    assert [one.fault for one in found] == [
        "cut by max_tokens",
        "cut by the context limit",
        "empty answer",
        "longer than the reward model's context",
        "calls a tool",
    ]
    assert [one.reward for one in found] == [None] * 5
    assert best(found) is None


def test_an_answer_that_came_to_its_end_is_not_the_same_as_one_that_was_cut() -> None:
    found = judged(answer("a key", "max_tokens"), answer("a key"))
    assert [one.reward is None for one in found] == [True, False]


def test_equal_answers_are_judged_once_and_all_get_the_reward() -> None:
    lengths = Lengths()
    (found,) = judge(lengths, toy_format(), 40, [PROMPT], [[answer("a key"), answer("the dict"), answer(" a key")]])
    assert lengths.asked == ["a key", "the dict"]
    assert [one.reward.combined for one in found if one.reward] == [5.0, 8.0, 5.0]


def test_equal_answers_to_two_prompts_are_judged_twice() -> None:
    lengths = Lengths()
    judge(lengths, toy_format(), 40, [PROMPT, question("the dict")], [[answer("a key")], [answer("a key")]])
    assert lengths.asked == ["a key", "a key"]


def test_the_best_is_the_first_of_the_highest_reward_and_only_it_is_learned() -> None:
    found = judged(answer("a key"), answer("the dict"), answer("the list"), answer("the item of the list", "max_tokens"))
    chosen = best(found)
    assert chosen is found[1]
    made = target(PROMPT, found[1])
    assert made.messages == (*PROMPT.messages, Message(role="assistant", content="the dict"))
    assert made.supervised == "last"


def test_a_pair_is_signed_by_the_reward_model_and_has_no_rating() -> None:
    found = judged(answer("a key"), answer("the dict"))
    made = pair(PROMPT, found[1], found[0], round="v2", metadata={"num_samples": 2})
    assert (made.annotator, made.simulated, made.rating, made.ranking, made.round) == ("reward model", True, None, (0, 1), "v2")
    assert made.metadata["rewards"] == {"combined": [8.0, 5.0], "helpfulness": [8.0, 5.0], "safety": [None, None]}
    assert fault(made) is None
    assert comparison_from_row(comparison_to_row(made), "here") == made


def test_prompts_are_the_same_by_what_is_said_and_too_long_ones_are_named() -> None:
    assert prompt_key(PROMPT) == prompt_key(replace(PROMPT, id="another"))
    assert prompt_key(PROMPT) != prompt_key(question("the item", "a key", "the item"))
    assert prompt_fault(PROMPT, toy_format(), 64) is None
    reason = prompt_fault(question("the item " * 60), toy_format(), 64)
    assert reason is not None
    assert reason[0] == "prompt longer than the context"
    assert "the model reads 64" in reason[1]
