import numpy as np
import pytest

from herdling.data.shared_rows import SharedPrompt, lay_out, row_length_for, split_prompt


def shared(prompt, *responses):
    return SharedPrompt(prompt=np.array(prompt, np.int32), responses=tuple(np.array(one, np.int32) for one in responses))


def test_responses_stand_behind_the_prompt_with_positions_that_go_on_from_it():
    batch, ends = lay_out([shared([5, 6], [7, 8, 9], [4])], 8, pad_id=3)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 4, 3, 3]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 0, 0]]
    assert batch.response_ids.tolist() == [[0, 0, 1, 1, 1, 2, 0, 0]]
    assert batch.document_ids.tolist() == [[0, 0, 0, 0, 0, 0, -1, -1]]
    assert not batch.loss_mask.any()
    assert ends.tolist() == [[0, 4], [0, 5]]


def test_the_ends_are_in_the_order_of_the_documents_wherever_they_were_packed():
    documents = [shared([1], [2]), shared([3, 3, 3], [4, 4], [5]), shared([6], [7])]
    batch, ends = lay_out(documents, 6, pad_id=-1)
    assert batch.input_ids.shape == (2, 6)
    assert [batch.input_ids[row, column].item() for row, column in ends.tolist()] == [2, 4, 5, 7]
    assert batch.input_ids.min() == 0  # a tokenizer without padding says -1, which no embedding has


def test_a_token_that_differs_is_never_shared():
    split = split_prompt([[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 3, 5, 9]], 3)
    assert split.prompt.tolist() == [1, 2]
    assert [one.tolist() for one in split.responses] == [[3, 9], [4, 9], [3, 5, 9]]


def test_each_response_keeps_a_token_of_its_own():
    split = split_prompt([[1, 2], [1, 2, 3]], 3)
    assert split.prompt.tolist() == [1]
    assert (split.length, split.longest) == (4, 3)


def test_rows_are_longer_where_they_are_filled_better_and_attention_costs_little():
    assert row_length_for([10] * 8, 4, hidden_size=32) == 10
    # Rows of 10 and of 12 hold one each, 120 and 144 positions; of 15 seven are needed (105), of 17 six (102): 10 + 7 and five times 7 + 7; of 20 to 40, 120.
    assert row_length_for([10, *[7] * 11], 12, hidden_size=4096) == 17
    # 12 D = 12: 120 * 22 = 2,640 for rows of 10, 105 * 27 = 2,835 for 15, 102 * 29 = 2,958 for 17.
    assert row_length_for([10, *[7] * 11], 12, hidden_size=1) == 10


def test_a_document_longer_than_a_row_is_our_own_mistake():
    with pytest.raises(AssertionError):
        lay_out([shared([1, 2], [3])], 2, pad_id=0)
