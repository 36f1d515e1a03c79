import pytest
import torch

from herdling.base.errors import DataError, FormatError
from herdling.base.ledger import Ledger
from herdling.data.comparison_feed import ComparisonFeed
from herdling.data.comparison_rows import encode_answers, encode_comparisons, reward_batch
from tests.data.toy_comparisons import answer, comparison, question, rated, toy_format

MARGINS = {"significantly": 3.0, "better": 2.0, "slightly": 1.0, "negligibly": 0.0}
EDITED = comparison(1, ("a key", "the dict", "a key of the dict"), ranking=(2, 0, 1), edited=2, rating="better")


def encode(comparisons, objective="llama2", context=64):
    ledger = Ledger("reward")
    return encode_comparisons(comparisons, toy_format(), ledger, context=context, objective=objective, margins=MARGINS), ledger


def texts_of(encoded):
    """The responses as text, in the order of the row, each with the end of its turn."""
    return [toy_format().tokenizer.decode(ids.tolist()) for ids in encoded.shared.responses]


def test_llama2_takes_the_two_judged_responses_and_the_margin_of_their_rating():
    (pair,), ledger = encode([EDITED])
    assert texts_of(pair) == ["a key", "the dict"]
    assert (pair.ranks, pair.margin, pair.safe) == ((1, 2), 2.0, (-1, -1))
    assert (ledger.counts["responses"], ledger.counts["pairs"]) == (2, 1)


def test_llama3_takes_all_responses_edited_first_and_no_margin():
    (three,), ledger = encode([EDITED], "llama3")
    assert texts_of(three) == ["a key of the dict", "a key", "the dict"]
    assert (three.ranks, three.margin) == ((1, 2, 3), 0.0)
    assert ledger.counts["pairs"] == 3


def test_llama3_sets_aside_what_is_not_clearly_better_and_llama2_keeps_it():
    ratings = ["significantly", "better", "slightly", "negligibly", None]
    comparisons = [rated(number, rating) for number, rating in enumerate(ratings)]
    kept, ledger = encode(comparisons, "llama3")
    assert len(kept) == 3
    assert ledger.dropped == {"rated slightly or negligibly better": 2}
    assert ledger.counts["without a rating"] == 1
    ledger.check(0.0, harmless=("rated slightly or negligibly better",))
    assert [pair.margin for pair in encode(comparisons)[0]] == [3.0, 2.0, 1.0, 0.0, 0.0]


def test_the_prompt_ends_where_the_answer_begins_and_each_answer_ends_its_turn():
    (pair,), _ = encode([comparison()])
    whole = [toy_format().encode(question("the item 0", text)).ids for text in ("a key", "the dict")]
    prompt = toy_format().encode(question("the item 0"), generate=True).ids
    assert pair.shared.prompt.tolist() == list(prompt)
    assert [[*prompt, *ids] for ids in pair.shared.responses] == [list(ids) for ids in whole]
    assert all(ids[-1] == toy_format().end_of_turn_id for ids in pair.shared.responses)


def test_every_bad_comparison_is_set_aside_under_its_reason():
    bad = [
        comparison(1, ("a key", " a key ")),
        comparison(2, rating="best"),
        comparison(3, campaign="safety"),
        comparison(4, dialog=question("the item", "a key")),
        comparison(5, responses=(answer("a key"), answer("the", "context_full"))),
        comparison(6, ("a key", "the dict", "a key"), ranking=(2, 0, 1), edited=2),
        comparison(7, dialog=question("the item " * 40)),
        comparison(8, campaign="safety", safe=(False, True)),
        comparison(9, ("a key", "")),
    ]
    kept, ledger = encode([*bad, comparison(10)])
    assert len(kept) == ledger.kept == 1
    assert ledger.rows_in == 10
    assert ledger.dropped == {
        "equal responses": 1,
        "rating outside the scale": 1,
        "safety label missing": 1,
        "response does not follow its prompt": 1,
        "response cut by the context limit": 1,
        "edit changes nothing": 1,
        "longer than the context": 1,
        "unsafe response chosen": 1,
        "empty response": 1,
    }
    assert ledger.examples["longer than the context"][0].startswith("c7: ")


def test_the_context_bounds_a_prompt_with_one_response_and_not_with_all():
    (pair,), _ = encode([comparison()])
    assert len(encode([comparison()], context=pair.shared.longest)[0]) == 1
    assert pair.shared.length > pair.shared.longest
    assert not encode([comparison()], context=pair.shared.longest - 1)[0]


def test_safety_labels_follow_their_responses():
    (pair,), ledger = encode([comparison(campaign="safety", safe=(False, True), ranking=(1, 0), rating="better")])
    assert texts_of(pair) == ["the dict", "a key"]
    assert pair.safe == (1, 0)
    assert ledger.counts["responses with a safety label"] == 2


def test_a_dialog_that_ends_with_the_user_has_nothing_to_score():
    with pytest.raises(FormatError, match="expected the answer of the assistant"):
        encode_answers([question("the item")], toy_format())


def feed_of(count=10, objective="llama2", **changes):
    comparisons = [comparison(number, ("a key", "the dict", "an item"), rating="better", safe=(True, True, False)) for number in range(count)]
    settings = {"batch_pairs": 4, "epochs": 2, "seed": 7, "hidden_size": 32, **changes}
    return ComparisonFeed(encode(comparisons, objective)[0], reward_batch, **settings)


def documents_of(batch):
    """Each document of a batch as (prompt ids, [(rank, ids, safe, margin) of each response in the order of the row])."""
    found = []
    for row in range(batch.input_ids.shape[0]):
        for document in range(int(batch.document_ids[row].max()) + 1):
            here = batch.document_ids[row] == document
            ids, parts = batch.input_ids[row][here], batch.response_ids[row][here]
            answers = []
            for part in range(1, int(parts.max()) + 1):
                own = parts == part
                ranks, places = batch.ranks[row][here][own], own.nonzero().flatten()
                assert ranks[:-1].eq(0).all()  # only the last token of a response has a rank
                assert ranks[-1] > 0
                last = places[-1]
                answers.append((int(ranks[-1]), tuple(ids[own].tolist()), int(batch.safe[row][here][last]), float(batch.margins[row][here][last])))
            found.append((tuple(ids[parts == 0].tolist()), answers))
    return found


def test_a_step_has_exactly_its_comparisons_and_the_last_what_is_left():
    feed = feed_of(batch_pairs=6)
    batches = list(feed.batches(0))
    assert [len(documents_of(batch)) for batch in batches] == [6, 6, 6, 2]
    assert feed.num_steps == 4
    prompts = [prompt for batch in batches for prompt, _ in documents_of(batch)]
    assert sorted(prompts[:10]) == sorted(prompts[10:])  # each comparison once an epoch
    assert prompts[:10] != prompts[10:]


def test_each_response_carries_its_own_rank_label_and_margin_in_any_order():
    order = set()
    for batch in feed_of(objective="llama3").batches(0):
        for _, answers in documents_of(batch):
            order.add(tuple(rank for rank, *_ in answers))
            told = {rank: (toy_format().tokenizer.decode(list(ids)), safe, margin) for rank, ids, safe, margin in answers}
            assert told == {1: ("a key", 1, 0.0), 2: ("the dict", 1, 0.0), 3: ("an item", 0, 0.0)}
    assert len(order) > 3


def test_the_rank_stands_at_the_token_that_ends_the_turn_and_not_one_early():
    for batch in feed_of().batches(0):
        assert (batch.input_ids[batch.ranks > 0] == toy_format().end_of_turn_id).all()
        assert (batch.margins[batch.ranks > 0] == 2.0).all()
        assert not batch.margins[batch.ranks == 0].any()
        assert (batch.safe[batch.ranks == 0] == -1).all()


def test_a_step_is_a_pure_function_of_its_number():
    all_at_once, from_two = list(feed_of().batches(0))[2:], list(feed_of().batches(2))
    for ours, theirs in zip(all_at_once, from_two, strict=True):
        assert torch.equal(ours.input_ids, theirs.input_ids)
        assert torch.equal(ours.ranks, theirs.ranks)


def test_another_seed_another_margin_or_other_texts_are_another_order_of_data():
    prints = {feed_of().fingerprint, feed_of(seed=8).fingerprint, feed_of(batch_pairs=5).fingerprint, feed_of(count=9).fingerprint}
    assert len({*prints, feed_of(objective="llama3").fingerprint}) == 5
    assert feed_of().fingerprint == feed_of().fingerprint


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(DataError, match="no comparison is left"):
        ComparisonFeed([], reward_batch, batch_pairs=4, epochs=1, seed=0, hidden_size=32)
