from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from herdling.base.errors import TokenizerError
from herdling.tokenizer.tiktoken import MAX_CHARACTERS, MAX_RUN, TiktokenTokenizer, guarded, llama3_special_tokens, read_ranks


def cut_letter_by_letter(text: str) -> Iterator[str]:
    """What the guards do, one character at a time."""
    for start in range(0, len(text), MAX_CHARACTERS):
        piece, run, kind = "", 0, None
        for character in text[start : start + MAX_CHARACTERS]:
            run = run + 1 if character.isspace() == kind else 1
            kind = character.isspace()
            if run > MAX_RUN:
                yield piece
                piece, run = "", 1
            piece += character
        yield piece


@pytest.mark.parametrize("seed", range(6))
def test_long_runs_are_cut_where_metas_encoder_cuts_them(seed: int) -> None:
    choose = random.Random(seed)
    text = ""
    while len(text) < 450_000:
        text += choose.choice("ab \n\u00a0\x1cé") * choose.choice([1, 2, 300, MAX_RUN - 1, MAX_RUN, MAX_RUN + 1, 2 * MAX_RUN, 2 * MAX_RUN + 1, 60_000])
    assert guarded(text) == list(cut_letter_by_letter(text))


def test_a_long_run_is_encoded_in_pieces_and_comes_back(llama3: TiktokenTokenizer) -> None:
    text = "x" * 60_001 + " " * 30_000 + "end"
    ids = llama3.encode(text)
    assert ids == [token for piece in cut_letter_by_letter(text) for token in llama3._encoding.encode_ordinary(piece)]
    assert llama3.decode(ids) == text
    assert llama3.encode_batch([text])[0].tolist() == ids


def test_the_special_tokens_are_llama_3_1s() -> None:
    names = llama3_special_tokens(256, "<|image|>")
    assert len(names) == len(set(names)) == 256
    assert [names[index] for index in (0, 1, 4, 6, 7, 8, 9, 10, 11, 12, 255)] == [
        "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
        "<|python_tag|>", "<|image|>", "<|reserved_special_token_2|>", "<|reserved_special_token_245|>",
    ]  # fmt: skip
    assert llama3_special_tokens(16) == [*names[:11], *(f"<|reserved_special_token_{index}|>" for index in range(2, 7))]


def test_special_tokens_count_into_the_vocabulary(llama3: TiktokenTokenizer) -> None:
    assert llama3.vocab_size == 700
    assert sorted(llama3.special_ids.values()) == list(range(684, 700))
    assert llama3.special_ids["<|end_of_text|>"] == llama3.eos_id == 685


@pytest.mark.parametrize(
    ("ranks", "special", "match"),
    [
        ({bytes([byte]): byte for byte in range(255)}, llama3_special_tokens(16), "single bytes are no token, the first is 0xFF"),
        ({bytes([byte]): 2 * byte for byte in range(256)}, llama3_special_tokens(16), "without a gap"),
        ({bytes([byte]): byte for byte in range(256)}, ["<|begin_of_text|>"], "no special token <|end_of_text|>"),
    ],
)
def test_a_vocabulary_that_is_no_llama_3s_is_refused(ranks: dict[bytes, int], special: list[str], match: str) -> None:
    with pytest.raises(TokenizerError, match=match.replace("|", r"\|")):
        TiktokenTokenizer(ranks, special)


@pytest.mark.parametrize("data", [b"aGVsbG8= 0\nnonsense\n", b"aGVsbG8= 0\n### 1\n", b"aGVsbG8= 0\naGVs x\n"])
def test_a_damaged_line_is_named(data: bytes) -> None:
    with pytest.raises(TokenizerError, match="here: line 2 is not a base64 token"):
        read_ranks(data, "here")
