"""`POST /v1/signals`: responses that applications pass on, one or many in a body."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from exporter.core.moment import unix_seconds
from exporter.core.signal import Signal
from exporter.intake import rejections
from exporter.intake.format import JSON_ANSWERS, JSON_TYPES, Context, Format, Push
from exporter.intake.json_items import json_items
from exporter.intake.reading import (
    MAX_ITEMS,
    Reading,
    Rejection,
    check_items,
    shown,
)
from exporter.intake.signals.judge import MIN_QUOTA_SECONDS, read_response


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    provider: str
    status: int
    headers: dict[str, str | int | float | list[str] | None] = {}
    body: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: str | int | float | None = None
    model: str = ""
    consumer: str = ""


_item = msgspec.json.Decoder(_Item)
_any = msgspec.json.Decoder()


def read(
    body: bytes,
    now: float,
    most: int = MAX_ITEMS,
    exhausted_from: float = MIN_QUOTA_SECONDS,
    consumer: str = "",
) -> Reading:
    """Read one JSON object, a JSON array, or one object per line.

    Args:
        now: the arrival.
        most: items that are read.
        exhausted_from: see `read_response`.
        consumer: who asked, where an item does not say.

    Raises:
        MalformedBody: it is none of these, or empty, or holds more than `most` items.
    """
    reading = Reading()
    items = json_items(body)
    check_items(len(items), most)
    for index, item in enumerate(items):
        with rejections.item(reading.rejected, index):
            try:
                reading.signals.append(_signal(item, now, exhausted_from, consumer))
            except msgspec.ValidationError as error:
                reading.rejected.append(Rejection(index, _explained(error, item)))
    return reading


def _signal(raw: msgspec.Raw, now: float, exhausted_from: float, consumer: str) -> Signal:
    item = _item.decode(raw)
    at = now if item.timestamp is None else _timestamp(item.timestamp)
    body = _body(item.body)
    return read_response(
        item.provider,
        item.status,
        item.headers,
        body,
        at,
        item.model,
        item.consumer or consumer,
        exhausted_from,
    )


def _explained(error: msgspec.ValidationError, raw: msgspec.Raw) -> str:
    """The field first, and its value where that cannot be a secret."""
    what, _, path = str(error).partition(" - at `$.")
    expected, _, got = what.partition(", got ")
    if path.rstrip("`") in ("provider", "status", "timestamp", "model", "consumer"):
        with suppress(msgspec.DecodeError):  # the rest of the item may be broken, too
            got = shown(_any.decode(raw)[path.rstrip("`")])
    field = path.split("[")[0].rstrip("`.")
    return f"{field}: {expected.lower()}, got {got}" if field else what


def _body(raw: msgspec.Raw) -> str | bytes | Mapping[str, Any] | None:
    """The body as it is, or the text in it where it was sent as a JSON string."""
    data = bytes(raw)
    return str(_any.decode(data)) if data.lstrip().startswith(b'"') else data


def _timestamp(value: str | int | float) -> float:
    """Unix seconds of a number or an RFC 3339 text with its offset."""
    try:
        seconds = unix_seconds(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(
            f"timestamp: expected Unix seconds or RFC 3339 with an offset, got {shown(value)}"
        )
    return seconds


def _read(push: Push, context: Context) -> Reading:
    return read(push.body, context.now, context.max_items, context.exhausted_from, push.consumer)


FORMAT = Format(
    path="/v1/signals",
    source="signals",
    summary="Push what a provider answered.",
    read=_read,
    media_types=JSON_TYPES,
    encoding=JSON_ANSWERS,
)
