"""TFRecord files and tf.train.Example messages without TensorFlow.

A record is its length (8 bytes), a checksum (4), the message, a checksum (4). An
Example is a map from names to lists of bytes, floats or integers, in the protocol
buffer wire format; bytes and integers are read here.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path


def index_records(path: str | Path) -> list[tuple[int, int]]:
    """(position, length) of each message; reads only the lengths.

    Raises:
      OSError: if the file is cut.
    """
    places, position = [], 0
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while position < size:
            head = file.read(12)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if position + 16 + length > size:
                raise OSError(f"record {len(places)} is cut, or not a TFRecord file")
            places.append((position + 12, length))
            position = file.seek(length + 4, os.SEEK_CUR)
    return places


def _varint(data: memoryview, k: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[k]
        value |= (byte & 0x7F) << shift
        k, shift = k + 1, shift + 7
        if byte < 0x80:
            return value, k


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the length-delimited fields of a message."""
    k = 0
    while k < len(data):
        key, k = _varint(data, k)
        kind = key & 7
        if kind == 2:
            length, k = _varint(data, k)
            if k + length > len(data):
                raise ValueError("a field reaches beyond its message")
            yield key >> 3, data[k : k + length]
            k += length
        elif kind == 0:
            _, k = _varint(data, k)
        elif kind in (1, 5):
            k += 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")


def example_bytes(message: bytes) -> dict[str, bytes]:
    """The first bytes value of each feature of a tf.train.Example that has any.

    Raises:
      ValueError: if it is not such a message.
    """
    found = {}
    try:
        for _, features in _fields(memoryview(message)):
            for _, entry in _fields(features):
                parts = dict(_fields(entry))  # 1: the name, 2: the feature
                kinds = dict(_fields(parts[2]))  # 1: bytes, 2: floats, 3: integers
                value = dict(_fields(kinds[1])).get(1) if 1 in kinds else None
                if value is not None:
                    found[bytes(parts[1]).decode()] = bytes(value)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tf.train.Example: {error!r}") from error
    return found


def example_lists(message: bytes) -> dict[str, list[memoryview] | list[int]]:
    """All bytes values or integers of each feature of a tf.train.Example.

    Raises:
      ValueError: if it is not such a message.
    """
    found = {}
    try:
        for _, features in _fields(memoryview(message)):
            for _, entry in _fields(features):
                parts = dict(_fields(entry))  # 1: the name, 2: the feature
                for kind, values in _fields(parts[2]):
                    name = bytes(parts[1]).decode()
                    if kind == 1:
                        found[name] = [value for _, value in _fields(values)]
                    elif kind == 3:
                        found[name] = _integers(values)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tf.train.Example: {error!r}") from error
    return found


def _integers(values: memoryview) -> list[int]:
    """Those of an Int64List, whose writers pack them into one field."""
    integers, k = [], 0
    packed = b"".join(bytes(content) for _, content in _fields(values))
    while k < len(packed):
        value, k = _varint(memoryview(packed), k)
        integers.append(value)
    return integers
