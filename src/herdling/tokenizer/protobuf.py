"""Just enough of the protocol-buffer wire format to read, write and amend a SentencePiece model file.

A message is a list of (field number, value): integers for varints, bytes for everything with a length, a float for 32 bits. SentencePiece needs the
protobuf library for this; the few fields that we touch do not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Field = tuple[int, int | bytes | float]


def read_message(data: bytes) -> list[Field]:
    """Return the fields of a message in their order. Raises `ValueError` where the bytes are no message."""
    fields: list[Field] = []
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _read_varint(data, place)
            fields.append((number, value))
        elif wire == 2:
            length, place = _read_varint(data, place)
            if place + length > len(data):
                raise ValueError(f"field {number} needs {length} bytes, {len(data) - place} are left")
            fields.append((number, data[place : place + length]))
            place += length
        elif wire == 5 and place + 4 <= len(data):
            fields.append((number, struct.unpack_from("<f", data, place)[0]))
            place += 4
        else:
            raise ValueError(f"field {number} has wire type {wire} at byte {place}")
    return fields


def write_message(fields: Iterable[Field]) -> bytes:
    """Return the bytes of a message."""
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, bytes):
            parts += [_varint(number << 3 | 2), _varint(len(value)), value]
        elif isinstance(value, float):
            parts += [_varint(number << 3 | 5), struct.pack("<f", value)]
        else:
            parts += [_varint(number << 3), _varint(value)]
    return b"".join(parts)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError(f"a number does not end at byte {place}")


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as their 64-bit complement
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
