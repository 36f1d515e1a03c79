"""Answers as rows and as files: every token is predicted where it must be, nothing is learned of a prompt, and nothing is lost on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdling.base.errors import CheckpointError
from herdling.train.config import AdvantageConfig
from herdling.train.experience import Experience, targets_of
from herdling.train.rollouts import pack_rollouts, ppo_batch, read_experience, write_experience
from herdling.types import Rollout

END = 99


def rollouts() -> list[Rollout]:
    """Three answers; the second was cut, so it has no token that ends a turn."""
    shapes = [((1, 2, 3), (10, 11, END), True), ((4,), (12, 13), False), ((5, 6), (END,), True)]
    return [
        Rollout(prompt_ids=prompt, response_ids=answer, logprobs=tuple(-0.1 * token for token in answer), text="é", ended=ended, reward=float(len(answer)))
        for prompt, answer, ended in shapes
    ]


def experience() -> Experience:
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, 0.0], [-6.0, 0.0, 0.0]])
    values = torch.arange(12.0).view(3, 4)
    return Experience(rollouts=rollouts(), logprobs=logprobs, reference=logprobs - 0.5 * mask, values=values)


def test_exactly_the_tokens_of_answers_are_learned_and_each_from_what_stands_before_it() -> None:
    packed = pack_rollouts(rollouts(), 9, pad_id=0)
    batch = packed.batch
    learned = []
    for row, position in batch.loss_mask.nonzero().tolist():
        learned.append((int(batch.input_ids[row, position]), int(batch.labels[row, position])))
    assert sorted(learned) == sorted([(3, 10), (10, 11), (11, END), (4, 12), (12, 13), (6, END)])
    assert int((batch.document_ids >= 0).sum()) == 12
    assert (batch.input_ids == END).sum() == 2  # no end was added to the answer that was cut
    assert batch.position_ids.max() == 5


def test_what_is_gathered_from_rows_is_what_was_scattered_into_them() -> None:
    packed = pack_rollouts(rollouts(), 9, pad_id=0)
    values, mask = torch.arange(1.0, 13.0).view(3, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    placed = packed.scatter(values, mask)
    assert packed.gather(placed, 4, behind=1).tolist() == torch.where(mask, values, 0.0).tolist()
    assert packed.gather(placed, 3).tolist() == [[1, 2, 3], [5, 6, 0], [9, 0, 0]]
    # The value behind an answer stands at its last token.
    row, position = (packed.batch.input_ids == END).nonzero().tolist()[0]
    assert placed[row, position] in (4.0, 10.0)


@pytest.mark.parametrize("formulas", ["textbook", "trl"])
def test_a_mini_batch_holds_each_target_at_its_token(formulas: str) -> None:
    made, config = experience(), AdvantageConfig(formulas=formulas)  # type: ignore[arg-type]
    targets = targets_of(made, 0.1, config)
    chosen = torch.tensor([2, 0])
    packed = pack_rollouts([made.rollouts[2], made.rollouts[0]], 6, pad_id=0)
    batch = ppo_batch(packed, made, targets, chosen, untouched=True)
    assert batch.untouched
    assert packed.gather(batch.old_logprobs, 3).tolist() == made.logprobs[chosen].tolist()
    assert packed.gather(batch.advantages, 3).tolist() == targets.advantages[chosen, :3].tolist()
    width = targets.returns.shape[1]
    for found, wanted in ((batch.returns, targets.returns), (batch.old_values, made.values)):
        kept = torch.where(targets.value_mask[chosen], wanted[chosen], 0.0)
        assert packed.gather(found, width, behind=1).tolist() == kept.tolist()
    # However many positions the critic learns at, its loss is a mean over them once the loop has divided by the tokens.
    assert float(batch.value_weights.sum()) == pytest.approx(4)
    assert int((batch.value_weights > 0).sum()) == (5 if formulas == "trl" else 4)


def test_a_file_gives_back_every_number_and_letter(tmp_path: Path) -> None:
    made = experience()
    write_experience(tmp_path / "deep" / "00003.npz", made, {"iteration": 3, "beta": 0.1})
    read, facts = read_experience(tmp_path / "deep" / "00003.npz")
    assert facts == {"iteration": 3, "beta": 0.1}
    assert list(read.rollouts) == list(made.rollouts)
    for name in ("logprobs", "reference", "values"):
        assert torch.equal(getattr(read, name), getattr(made, name))


def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    write_experience(tmp_path / "a.npz", experience(), {})
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"a\.npz: is damaged"):
        read_experience(tmp_path / "a.npz")
