from __future__ import annotations

import pytest

from herdling.tokenizer.protobuf import read_message, write_message


def test_a_message_reads_back() -> None:
    fields = [(1, b"piece"), (2, -1.5), (3, 300), (43, (1 << 64) - 1), (1000, b"")]
    assert read_message(write_message(fields)) == fields


def test_known_bytes_of_the_specification() -> None:
    assert write_message([(1, 150)]) == bytes([0x08, 0x96, 0x01])
    assert write_message([(2, b"testing")]) == bytes.fromhex("120774657374696e67")
    assert write_message([(1, -1)]) == bytes.fromhex("08ffffffffffffffffff01")


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x07test", b"\x0b", b"\x15\x00", b"\x08" + b"\xff" * 11])
def test_broken_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        read_message(data)
