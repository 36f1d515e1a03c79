"""Rows for fine-tuning: whole dialogs, loss on answers and their ends, nothing lost without a count. Against a plain loop over dialogs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.base.ledger import Ledger
from herdling.data.dialog_rows import DialogRows, EncodedDialogs, encode_dialogs
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece
from herdling.types import Batch, Dialog, Message, ToolCall
from tests.data.toy_tokens import ToyChatFormat, dialog, random_texts

LENGTH = 64
END = 258


def encode(dialogs: list[Dialog], **options: object) -> tuple[EncodedDialogs, Ledger]:
    ledger = Ledger("sft")
    return encode_dialogs(dialogs, ToyChatFormat(), ledger, sequence_length=LENGTH, **options), ledger  # type: ignore[arg-type]


def short_dialogs(count: int) -> list[Dialog]:
    texts = random_texts(2 * count, longest=20)
    return [dialog(texts[2 * index], texts[2 * index + 1], name=str(index)) for index in range(count)]


def dialogs_in(batch: Batch) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[bool, ...]]]:
    """(input ids, labels, loss mask) of each dialog in a batch, checked for positions on the way."""
    found = []
    for row in range(len(batch.input_ids)):
        for document in range(int(batch.document_ids[row].max()) + 1):
            here = batch.document_ids[row] == document
            assert batch.position_ids[row][here].tolist() == list(range(int(here.sum())))
            found.append(tuple(tuple(getattr(batch, name)[row][here].tolist()) for name in ("input_ids", "labels", "loss_mask")))
    return found  # type: ignore[return-value]


def test_every_dialog_is_whole_in_one_row_once_an_epoch() -> None:
    made = short_dialogs(50)
    encoded, ledger = encode(made)
    rows = DialogRows(encoded, sequence_length=LENGTH, epochs=2, seed=1)
    expected = []
    for each in made:
        ids = ToyChatFormat().encode(each).ids
        answer = len(ids) - len(each.messages[1].content) - 1  # the answer and its end close the dialog
        mask = tuple(answer <= position + 1 < len(ids) for position in range(len(ids)))
        expected.append((ids, tuple(ids[position + 1] if mask[position] else 0 for position in range(len(ids))), mask))
    for epoch in range(2):
        found = dialogs_in(rows.rows(epoch * rows.rows_per_epoch, rows.rows_per_epoch))
        assert sorted(found) == sorted(expected)
    supervised = sum(sum(mask) for _, _, mask in expected)
    assert (ledger.rows_in, ledger.kept) == (50, 50)
    assert ledger.counts["tokens supervised"] == supervised
    assert ledger.counts["ends of turn trained"] == ledger.counts["answers"] == 50
    assert ledger.counts["tokens"] == sum(len(ids) for ids, _, _ in expected)
    assert rows.fill == pytest.approx(ledger.counts["tokens"] / (rows.rows_per_epoch * LENGTH))


def test_each_epoch_has_another_order_and_the_same_seed_the_same() -> None:
    encoded, _ = encode(short_dialogs(100))
    one, same, other = (DialogRows(encoded, sequence_length=LENGTH, epochs=2, seed=seed) for seed in (1, 1, 2))
    per_epoch = one.rows_per_epoch
    first, second = one.rows(0, per_epoch).input_ids, one.rows(per_epoch, per_epoch).input_ids
    assert (first != second).any()
    assert (first == same.rows(0, per_epoch).input_ids).all()
    assert (first != other.rows(0, per_epoch).input_ids).any()
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_rows_do_not_depend_on_how_they_are_asked_for() -> None:
    rows = DialogRows(encode(short_dialogs(60))[0], sequence_length=LENGTH, epochs=3, seed=1)
    whole = rows.rows(0, rows.num_rows)
    for start, count in [(rows.rows_per_epoch - 2, 5), (0, 1), (rows.num_rows - 1, 1)]:
        part = rows.rows(start, count)
        for name in ("input_ids", "labels", "loss_mask", "position_ids", "document_ids"):
            assert (getattr(part, name) == getattr(whole, name)[start : start + count]).all()


def test_several_turns_are_all_supervised_with_their_ends() -> None:
    encoded, ledger = encode([dialog("ab", "cd", "ef", "gh")])
    wanted = encoded.ids[encoded.trained]
    assert wanted.tolist() == [*b"cd", END, *b"gh", END]
    assert ledger.counts["ends of turn trained"] == 2


def test_where_only_the_last_answer_is_learned_the_earlier_ones_are_read_and_not_trained() -> None:
    encoded, ledger = encode([replace(dialog("ab", "cd", "ef", "gh"), supervised="last"), dialog("ab", "cd")])
    assert encoded.ids[encoded.trained].tolist() == [*b"gh", END, *b"cd", END]
    assert ledger.counts["answers"] == ledger.counts["ends of turn trained"] == 2
    assert ledger.counts["tokens"] == len(encoded.ids) == len(ToyChatFormat().encode(dialog("ab", "cd", "ef", "gh")).ids) + 9


def test_a_last_answer_that_was_never_reached_is_fully_masked() -> None:
    made = replace(dialog("q", "a" * 70, "q", "b"), supervised="last")
    _, ledger = encode([made, dialog("q", "a")], too_long="truncate")
    assert ledger.dropped == {"prompt longer than a row": 1}


def test_with_a_real_chat_format_the_calls_behind_the_last_question_belong_to_the_last_answer() -> None:
    tokenizer = train_byte_level_bpe(iter(random_texts(200)), 300)
    call = ToolCall(id="c", name="add", arguments={"a": 1})
    messages = (
        *dialog("ab", "An answer.", "1+2?").messages,
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="3", tool_call_id="c"),
        Message(role="assistant", content="It is 3."),
    )
    made = Dialog(id="d", messages=messages, tools=({"name": "add", "parameters": {}},), supervised="last")
    encoded = encode_dialogs([made], chat_format(tokenizer, "llama3.1"), Ledger("sft"), sequence_length=1024)
    trained = tokenizer.decode(encoded.ids[encoded.trained].tolist())
    assert '"add"' in trained
    assert trained.rstrip().endswith("It is 3.")
    assert "An answer." not in trained


@pytest.mark.parametrize("name", ["llama2", "llama3"])
def test_with_real_chat_formats_exactly_the_answers_and_their_ends_are_trained(name: str) -> None:
    texts = random_texts(200)
    tokenizer = train_byte_level_bpe(iter(texts), 300) if name == "llama3" else train_sentencepiece(iter(texts), 300)
    real = chat_format(tokenizer, name)  # type: ignore[arg-type]
    made = [dialog("ab cd", "An answer.", "ef", "Another <|eot_id|> one."), dialog("x", "It is </s> 42.")]
    encoded = encode_dialogs(made, real, Ledger("sft"), sequence_length=256)
    batch = DialogRows(encoded, sequence_length=256, epochs=1, seed=1).rows(0, 1)
    end, trained = real.end_of_turn_id, batch.labels[batch.loss_mask].tolist()
    ends = [position for position, token in enumerate(trained) if token == end]
    answers = [tokenizer.decode(trained[first + 1 : last]).strip() for first, last in pairwise([-1, *ends])]
    assert answers == [message.content for each in made for message in each.messages if message.role == "assistant"]
    assert ends[-1] == len(trained) - 1


def test_too_long_dialogs_are_dropped_or_cut_short_as_asked_and_counted() -> None:
    made = [dialog("q", "a" * 200, name="long answer"), dialog("q" * 200, "a", name="long question"), dialog("q", "a", name="short")]
    _, ledger = encode(made)
    assert ledger.dropped == {"longer than a row": 1, "prompt longer than a row": 1}
    assert ledger.examples["longer than a row"] == ["long answer: 206 tokens, a row holds 64"]
    encoded, ledger = encode(made, too_long="truncate")
    assert ledger.dropped == {"prompt longer than a row": 1}
    assert ledger.counts["truncated"] == 1
    assert np.diff(encoded.ends, prepend=0).tolist() == [64, 7]


def test_without_any_end_of_turn_to_train_it_fails_rather_than_make_a_model_that_cannot_stop() -> None:
    with pytest.raises(DataError, match="no end of turn would be trained in 1 dialogs"):
        encode([dialog("q", "a" * 200)], too_long="truncate")


def test_no_dialogs_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no dialog is left to train on"):
        DialogRows(encode([])[0], sequence_length=LENGTH, epochs=1, seed=1)


def test_padding_sees_nothing_and_teaches_nothing() -> None:
    rows = DialogRows(encode(short_dialogs(3))[0], sequence_length=LENGTH, epochs=1, seed=1, pad_id=5)
    batch = rows.rows(0, rows.num_rows)
    padding = batch.document_ids == -1
    assert padding.any()
    assert not batch.loss_mask[padding].any()
    assert (batch.input_ids[padding] == 5).all()
    assert (batch.position_ids[padding] == 0).all()
