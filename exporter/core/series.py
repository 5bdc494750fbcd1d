"""What usage is counted by: whose quota it is, what was asked for, and who asked."""

from typing import NamedTuple

import msgspec


class Series(NamedTuple):
    """One history of usage. A new label is one more field here, with a default; nothing else that
    is stored, or reads what is, has to know of it.

    Attributes:
        provider: canonical name of whatever has the quota, never empty.
        model: model name, empty when unknown.
        consumer: who asked (a team, key, application), empty when unknown.
    """

    provider: str
    model: str = ""
    consumer: str = ""


_decoder = msgspec.json.Decoder(Series)


def encode(series: Series) -> str:
    """A series as it is written down: a JSON array of its labels, without empty ones at the end.

    So the text of a series stays the same when labels are added.
    """
    count = len(series)
    while not series[count - 1]:
        count -= 1
    return msgspec.json.encode(series[:count]).decode()


def decode(text: str | bytes) -> Series:
    """What `encode` wrote; labels that are not in it have their defaults.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return _decoder.decode(text)
