"""How many messages a Protobuf body would become, before memory is spent on them.

Two bytes can be a message that takes two hundred in memory, and parsing holds the interpreter's
lock: five million of them would stop everybody for a second.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from exporter.intake.reading import MalformedBody

MAX_MESSAGES = 1_000_000
"""In a body: ten megabytes of real spans or series have half as many, and take seconds."""

SMALL = 256 * 1024
"""Bytes of a body that cannot hold enough to matter, and is not looked through."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# By message: field number -> the message it holds.
_Fields = dict[int, "_Fields"]


def check_messages(body: bytes, kind: type[Message], most: int = MAX_MESSAGES) -> None:
    """Check that at most `most` messages are within a message of a kind. What is no message at
    all has few: that is for the parser to refuse.

    Raises:
        MalformedBody: there are more.
    """
    if len(body) > SMALL and _has_more(body, _fields(kind.DESCRIPTOR, {}), most):
        raise MalformedBody(f"body: expected at most {most} messages within, got more")


def _has_more(body: bytes, fields: _Fields, most: int) -> bool:
    found = 0
    waiting = [(0, len(body), fields)]
    while waiting:
        at, end, fields = waiting.pop()
        while at < end:
            tag, at = _varint(body, at, end)
            wire = tag & 7
            if wire == _BYTES:
                size, at = _varint(body, at, end)
                inner = fields.get(tag >> 3)
                if inner is not None:
                    found += 1
                    if found > most:
                        return True
                    if size:
                        waiting.append((at, min(at + size, end), inner))
                at += size
            elif wire == _VARINT:
                _, at = _varint(body, at, end)
            elif wire == _FIXED64:
                at += 8
            elif wire == _FIXED32:
                at += 4
            else:
                break  # groups, which nothing here has, or no message
    return False


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """A number, and where it ends; beyond `end` all is zero."""
    found = shift = 0
    while at < end:
        byte = body[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
        shift += 7
        if shift > 63:
            return 0, end
    return 0, end


def _fields(kind: Any, known: dict[str, _Fields]) -> _Fields:
    fields = known.get(kind.full_name)
    if fields is None:
        fields = known[kind.full_name] = {}
        for field in kind.fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                fields[field.number] = _fields(field.message_type, known)
    return fields
