from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from herdling.base.ledger import Ledger
from herdling.data.comparison_feed import ComparisonFeed
from herdling.data.preference_rows import NOT_ASKED, encode_preferences, preference_batch, preference_rows
from herdling.tokenizer.chat_format import TokenRole, chat_format
from herdling.tokenizer.train import train_sentencepiece
from tests.data.toy_comparisons import WORDS, answer, comparison, question, rated, toy_format

EDITED = comparison(1, ("a key", "the dict", "a key of the dict"), ranking=(2, 0, 1), edited=2, rating="better")


def encode(comparisons, context=64, form=None, **settings):
    ledger = Ledger("dpo")
    return encode_preferences(comparisons, form or toy_format(), ledger, context=context, **settings), ledger


def words_of(encoded):
    """The responses as text without the prompt's last token, which stands at the head of each."""
    return [toy_format().tokenizer.decode(ids[1:].tolist()) for ids in encoded.shared.responses]


def test_the_last_token_of_the_prompt_stands_at_the_head_of_each_response():
    (pair,), _ = encode([comparison()])
    prompt = toy_format().encode(question("the item 0"), generate=True).ids
    whole = [toy_format().encode(question("the item 0", text)).ids for text in ("a key", "the dict")]
    assert pair.shared.prompt.tolist() == list(prompt[:-1])
    assert [[*prompt[:-1], *ids] for ids in pair.shared.responses] == [list(ids) for ids in whole]
    assert pair.shared.longest == max(map(len, whole))


def predictions(batch):
    """Each supervised position as (input, label, scored, nll weight), row by row."""
    found = []
    for row, column in batch.loss_mask.nonzero().tolist():
        at = (row, column)
        found.append((batch.input_ids[at].item(), batch.labels[at].item(), batch.scored[at].item(), batch.nll_weights[at].item()))
    return found


def test_every_token_of_both_responses_is_predicted_from_the_one_before_it():
    (pair,), _ = encode([comparison()], formatting="trained")
    batch = preference_batch([pair], pair.shared.length, pad_id=0)
    chosen, rejected = (ids.tolist() for ids in pair.shared.responses)
    assert chosen[0] == rejected[0]
    expected = [(one, other, True) for ids in (chosen, rejected) for one, other in pairwise(ids)]
    assert [found[:3] for found in predictions(batch)] == expected
    assert [weight > 0 for *_, weight in predictions(batch)] == [True] * (len(chosen) - 1) + [False] * (len(rejected) - 1)


@pytest.mark.parametrize("formatting", ["masked", "nll", "trained"])
def test_the_token_that_ends_a_response_counts_where_the_setting_says(formatting):
    (pair,), _ = encode([comparison()], formatting=formatting)
    end = toy_format().end_of_turn_id
    batch = preference_batch([pair], pair.shared.length, pad_id=0)
    ends = [(scored, weight > 0) for _, label, scored, weight in predictions(batch) if label == end]
    assert ends == {"masked": [], "nll": [(False, True)], "trained": [(True, True), (True, False)]}[formatting]
    said = [label for _, label, scored, _ in predictions(batch) if scored and label != end]
    assert said == [token for ids in pair.shared.responses for token in ids[1:-1].tolist()]


def test_headers_and_earlier_answers_never_count():
    dialog = question("the item", "a key", "the value")
    (pair,), _ = encode([comparison(dialog=dialog)], formatting="trained")
    encoded = toy_format().encode(question("the item", "a key", "the value", "a key"))
    last = encoded.message_index[-1]
    own = [
        token for token, role, message in zip(encoded.ids, encoded.roles, encoded.message_index, strict=True) if message == last and role != TokenRole.HEADER
    ]
    batch = preference_batch([pair], pair.shared.length, pad_id=0)
    assert [label for _, label, _, weight in predictions(batch) if weight] == own


def test_a_response_that_broke_off_never_teaches_to_end_there():
    cut = comparison(responses=(answer("a key", "max_tokens"), answer("the dict")))
    (pair,), ledger = encode([cut], formatting="trained")
    assert ledger.counts["responses that broke off"] == 1
    batch = preference_batch([pair], pair.shared.length, pad_id=0)
    ends = [weight for _, label, _, weight in predictions(batch) if label == toy_format().end_of_turn_id]
    assert ends == [0.0]  # the rejected one's, which did end


def test_llama2_chats_are_masked_by_the_role_of_their_tokens_too():
    form = chat_format(train_sentencepiece(iter([" ".join(WORDS), *WORDS]), 300), "llama2")
    (pair,), _ = encode([comparison()], form=form)
    batch = preference_batch([pair], pair.shared.length, pad_id=0)
    assert form.end_of_turn_id not in [label for _, label, _, _ in predictions(batch)]
    assert form.tokenizer.decode([label for _, label, _, weight in predictions(batch) if weight]).strip() == "a key"


def test_an_edit_is_preferred_to_the_rejected_response_or_all_pairs_are_taken():
    (ends,), ledger = encode([EDITED])
    assert words_of(ends) == ["a key of the dict", "the dict"]
    assert (ends.wins, ledger.counts["pairs"], ledger.counts["edits"]) == ((1, 0), 1, 1)
    (every,), ledger = encode([EDITED], pairing="all")
    assert words_of(every) == ["a key of the dict", "a key", "the dict"]
    assert (every.wins, ledger.counts["pairs"]) == ((2, 1, 0), 3)


def test_only_the_upper_two_ratings_are_used_unless_others_are_asked_for():
    comparisons = [rated(number, rating) for number, rating in enumerate(["significantly", "better", "slightly", "negligibly", None])]
    kept, ledger = encode(comparisons)
    assert len(kept) == 3
    assert ledger.dropped == {NOT_ASKED: 2}
    assert ledger.counts["without a rating"] == 1
    ledger.check(0.0, harmless=(NOT_ASKED,))
    assert len(encode(comparisons, ratings=("significantly", "better", "slightly", "negligibly"))[0]) == 5
    assert len(encode(comparisons, ratings=())[0]) == 1


def test_every_bad_comparison_is_set_aside_under_its_reason():
    bad = [
        comparison(1, ("a key", " a key ")),
        comparison(2, dialog=question("the item", "a key")),
        comparison(3, responses=(answer("a key"), answer("the", "context_full"))),
        comparison(4, dialog=question("the item " * 40)),
        comparison(5, ("a key", "")),
        comparison(6, dialog=question(" ")),
    ]
    kept, ledger = encode([*bad, comparison(10)])
    assert len(kept) == ledger.kept == 1
    assert ledger.dropped == {
        "equal responses": 1,
        "response does not follow its prompt": 1,
        "response cut by the context limit": 1,
        "longer than the context": 1,
        "empty response": 1,
        "the chat format cannot express it": 1,
    }


def test_the_nll_is_per_token_of_each_response_or_of_the_step_or_a_sum():
    # Chosen responses of 2 and 4 words; the best of three wins twice.
    (short, triple), _ = encode([comparison(0, ("a key", "the dict")), EDITED], pairing="all")
    n_short, n_edit, n_chosen = int(short.told[0].sum()), int(triple.told[0].sum()), int(triple.told[1].sum())
    assert len({n_short, n_edit}) == 2

    def weights(norm):
        batch, ends = preference_rows([short, triple], 64, pad_id=0, nll_norm=norm)
        sizes = [len(mask) for one in (short, triple) for mask in one.told]
        return [batch.nll_weights[row, end - size : end].unique().tolist() for (row, end), size in zip(ends.tolist(), sizes, strict=True)]

    def close(found, expected):
        for one, value in zip(found, expected, strict=True):
            assert max(one) == pytest.approx(value)
            assert min(one) in (0.0, max(one))  # 0 at the end of the turn, which is masked

    close(weights("sequence"), [1 / n_short, 0, 2 / n_edit, 1 / n_chosen, 0])
    close(weights("sum"), [1, 0, 2, 1, 0])
    total = n_short + 2 * n_edit + n_chosen
    close(weights("batch"), [4 / total, 0, 8 / total, 4 / total, 0])


def test_ranks_and_reference_stand_where_a_response_ends_and_nowhere_else():
    pairs, _ = encode([comparison(number, rating="better") for number in range(3)])
    pairs = [replace(one, reference=(-1.0 - i, -9.0 - i)) for i, one in enumerate(pairs)]
    batch, ends = preference_rows(pairs, max(one.shared.length for one in pairs), pad_id=0)
    assert [batch.ranks[row, end].item() for row, end in ends.tolist()] == [1, 2] * 3
    assert [batch.reference[row, end].item() for row, end in ends.tolist()] == [-1, -9, -2, -10, -3, -11]
    assert int((batch.ranks > 0).sum()) == int((batch.reference != 0).sum()) == 6
    assert [batch.input_ids[row, end].item() for row, end in ends.tolist()] == [toy_format().end_of_turn_id] * 6


def test_a_feed_deals_every_comparison_once_an_epoch_with_its_masks_whatever_the_order():
    pairs, _ = encode([comparison(number, rating="better") for number in range(10)])
    feed = ComparisonFeed(pairs, preference_batch, batch_pairs=4, epochs=1, seed=3, hidden_size=32)
    seen = []
    for batch in feed.batches(0):
        for row in range(len(batch.input_ids)):
            for document in range(int(batch.document_ids[row].max()) + 1):
                here = batch.document_ids[row] == document
                prompt = tuple(batch.input_ids[row][here & (batch.response_ids[row] == 0)].tolist())
                for part in (1, 2):
                    own = here & (batch.response_ids[row] == part)
                    rank = int(batch.ranks[row][own][-1])
                    seen.append((prompt, rank, tuple(batch.input_ids[row][own].tolist()), batch.scored[row][own].tolist()))
    expected = [
        (tuple(one.shared.prompt.tolist()), rank, tuple(ids.tolist()), [*mask.tolist(), False])
        for one in pairs
        for rank, ids, mask in zip(one.ranks, one.shared.responses, one.scored, strict=True)
    ]
    assert sorted(seen) == sorted(expected)


def test_the_fingerprint_of_a_feed_knows_the_masks():
    def fingerprint(formatting):
        pairs, _ = encode([comparison()], formatting=formatting)
        return ComparisonFeed(pairs, preference_batch, batch_pairs=4, epochs=1, seed=3, hidden_size=32).fingerprint

    assert len({fingerprint(formatting) for formatting in ("masked", "nll", "trained")}) == 3


def test_masks_are_over_the_tokens_behind_the_head():
    (pair,), _ = encode([comparison()])
    for ids, scored, told in zip(pair.shared.responses, pair.scored, pair.told, strict=True):
        assert len(scored) == len(told) == len(ids) - 1
        assert np.flatnonzero(~scored).tolist() == [len(ids) - 2]
