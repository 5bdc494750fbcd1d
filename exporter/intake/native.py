"""The exporter's own format: one JSON event, a JSON array, or NDJSON."""

import math
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Annotated, Any

import msgspec

from exporter.core.moment import unix_seconds
from exporter.core.slots import COST, REQUESTS, Cell, Counts, add
from exporter.core.usage import Tokens, Usage
from exporter.intake import rejections
from exporter.intake.batching import MAX_TOKENS, Batcher, event_digest, event_scope
from exporter.intake.format import JSON_ANSWERS, JSON_TYPES, Context, Format, Push
from exporter.intake.reading import MalformedBody, Reading, Rejection
from exporter.intake.usage_object import MAX_DOLLARS, UsageObject, nano_usd, read_usage
from exporter.storage.contract import Batch, DedupEntries

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=MAX_DOLLARS)]
Identity = Annotated[str, msgspec.Meta(max_length=512)]

Rename = Callable[[str, str], str]
"""From the provider and model of an event to the provider's canonical name."""


class Event(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One usage event, as applications push it; see `openapi.json` for the words to users."""

    provider: Annotated[str, msgspec.Meta(min_length=1)]
    model: str = ""
    id: Identity = ""
    timestamp: float | str | None = None
    tokens: Count | None = None
    input_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    consumer: str = ""
    requests: Count = 1
    cost_usd: Dollars | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")

    def kinds(self) -> tuple[int, int, int, int, int]:
        """The disjoint kinds, without `unspecified`."""
        return (
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        )


_Group = tuple[str, str, float | str | None, str]
"""Provider, model, timestamp and consumer: what decides where events are counted."""

_COUNTED_FIELDS = {"usage", "requests", "cost_usd"} | {
    field for field in Event.__struct_fields__ if field.endswith("tokens")
}

_event = msgspec.json.Decoder(Event)
_events = msgspec.json.Decoder(list[Event])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_item = msgspec.json.Decoder(msgspec.Raw)
_object = msgspec.json.Decoder(dict[str, Any])

MAX_SMALL = 160 * 1024
"""Bytes: a thousand events, which take a millisecond and a half."""

MAX_GROUPS = 500
"""Providers, models and timestamps in a small body: each takes some microseconds."""

MAX_SMALL_WITH_FAULTS = 8 * 1024
"""Bytes of a body that is read event by event, at ten times the cost."""

_MAX_SHOWN = 64
_MAX_WORDS = 200


class _Unusual(Exception):
    """Something that only the careful way can tell in full."""


_FAULTS = (msgspec.DecodeError, ValueError, RecursionError, _Unusual)
"""What bodies can be guilty of; nesting that is too deep is a RecursionError."""


def read(body: bytes, rename: Rename, batcher: Batcher, key: bytes, limit: int) -> Batch:
    """Read a body into a batch.

    The quick way takes bodies in which every event is in order, and sums them as it goes. Any
    fault sends the whole body the careful way, event by event.

    Raises:
        MalformedBody: it holds no events, or more than `limit`.
    """
    try:
        return _quickly(_decode(body, limit), rename, batcher, key)
    except _FAULTS:
        return _carefully(body, rename, batcher, key, limit)


def read_small(
    body: bytes, rename: Rename, batcher: Batcher, key: bytes, limit: int
) -> Batch | None:
    """Read a body if that takes no more than a few milliseconds; None when it may take longer.

    Raises:
        MalformedBody: see `read`.
    """
    if len(body) > MAX_SMALL:
        return None
    try:
        return _quickly(_decode(body, limit), rename, batcher, key, MAX_GROUPS)
    except _FAULTS:
        if len(body) > MAX_SMALL_WITH_FAULTS:
            return None
        return _carefully(body, rename, batcher, key, limit)


def read_plain(lines: bytes, rename: Rename, batcher: Batcher) -> Batch | None:
    """Read NDJSON of events that are in order and carry no id; None when any is not so."""
    try:
        batch = _quickly(_event.decode_lines(lines), rename, batcher, b"")
    except _FAULTS:
        return None
    return None if batch.claims else batch


def _decode(body: bytes, limit: int) -> list[Event]:
    events = _events.decode(body) if body.lstrip()[:1] == b"[" else _event.decode_lines(body)
    if not events or len(events) > limit:
        raise _Unusual
    return events


def _quickly(
    events: list[Event], rename: Rename, batcher: Batcher, key: bytes, max_groups: float = math.inf
) -> Batch:
    groups: dict[_Group, int] = {}
    sums: list[Counts] = []
    identified: list[Event] = []
    belongs: list[int] = []
    priced: list[tuple[int, Event]] = []
    for event in events:
        group = (event.provider, event.model, event.timestamp, event.consumer)
        at = groups.get(group)
        if at is None:
            if len(sums) >= max_groups:
                raise _Unusual
            at = groups[group] = len(sums)
            sums.append([0, 0, 0, 0, 0, 0, 0, 0])
        if event.id:
            identified.append(event)
            belongs.append(at)
        if event.cost_usd is not None:
            priced.append((at, event))
        counts = sums[at]
        counts[6] += event.requests
        into, out = event.input_tokens, event.output_tokens
        if event.tokens is not None or event.usage:
            if event.usage or into or out or event.cache_read_tokens:
                raise _Unusual
            if event.cache_write_tokens or event.reasoning_tokens:
                raise _Unusual
            counts[5] += event.tokens or 0
        elif into or out:  # most events have just these two
            counts[0] += into
            counts[3] += out
            if event.cache_read_tokens:
                counts[1] += event.cache_read_tokens
            if event.cache_write_tokens:
                counts[2] += event.cache_write_tokens
            if event.reasoning_tokens:
                counts[4] += event.reasoning_tokens
        else:
            raise _Unusual
    cells = [_cell(group, rename, batcher) for group in groups]
    if batcher.prices is not None:
        priced = [(groups[_group(event)], event) for event in events]
    unpriced = [counts[REQUESTS] for counts in sums]
    for at, event in priced:
        cost = _cost(event, cells[at], batcher)
        if cost is not None:
            sums[at][COST] += cost
            unpriced[at] -= event.requests
    batch = Batch(events=len(events) - len(identified), key=key)
    for cell, counts, requests in zip(cells, sums, unpriced, strict=True):
        add(batch.increments, cell, counts)
        if requests:
            batcher.add_unpriced(cell[0], requests)
    if identified:
        batch.claims = _claims(identified, belongs, cells, batcher)
    return batch


def _claims(
    events: list[Event], belongs: list[int], cells: list[Cell], batcher: Batcher
) -> DedupEntries:
    """Events with an identity; where each is counted stands at a position in `cells`."""
    scopes = [event_scope(series.provider) for series, _ in cells]

    def counts_of(at: int) -> Counts:
        event = events[at]
        cost = _cost(event, cells[belongs[at]], batcher)
        return [*event.kinds(), event.tokens or 0, event.requests, cost or 0]

    return DedupEntries(
        [event_digest(scopes[at], event.id) for at, event in zip(belongs, events, strict=True)],
        [cells[at] for at in belongs],
        counts_of,
    )


def _cost(event: Event, cell: Cell, batcher: Batcher) -> int | None:
    """What an event without `usage` costs in whole nano-US-dollars; None when nobody knows."""
    if event.cost_usd is not None:
        return nano_usd(event.cost_usd)
    return batcher.price(cell[0], (*event.kinds(), event.tokens or 0))


def _group(event: Event) -> _Group:
    return event.provider, event.model, event.timestamp, event.consumer


def _cell(group: _Group, rename: Rename, batcher: Batcher) -> Cell:
    provider, model, timestamp, consumer = group
    # The time first: a name is not taken up because of an event that is refused.
    slot = batcher.slot(_moment(timestamp))
    return batcher.series(rename(provider, model), model, consumer), slot


def _carefully(body: bytes, rename: Rename, batcher: Batcher, key: bytes, limit: int) -> Batch:
    usages: list[tuple[int, Usage]] = []
    rejected: list[Rejection] = []
    for index, item in enumerate(_split(body)):
        if index >= limit:
            raise MalformedBody(f"expected at most {limit} events in a request, got more")
        with rejections.item(rejected, index):
            try:
                event = _event.decode(item)
                if not _COUNTED_FIELDS & _object.decode(item).keys():
                    raise ValueError(
                        "expected tokens, kinds of tokens, usage, requests or cost_usd, "
                        "got none of them"
                    )
                usages.append((index, _usage(event, rename)))
            except _FAULTS as error:
                rejected.append(Rejection(index, _message(error, item)))
    if not usages and not rejected:
        raise MalformedBody("expected a usage event, an array of them or NDJSON, got nothing")
    return batcher.batch(usages, rejected, key)


def _split(body: bytes) -> Iterator[bytes]:
    """The items of a body, not decoded yet, parted as the quick way parts them."""
    if body.lstrip()[:1] == b"[":
        try:
            yield from _items.decode(body)
        except _FAULTS as error:
            raise MalformedBody(f"expected a JSON array of events: {_words(error)}") from error
        return
    try:
        yield from _item.decode_lines(body)
    except _FAULTS:
        for line in BytesIO(body):
            try:
                yield from _item.decode_lines(line)
            except _FAULTS:
                yield line


def _usage(event: Event, rename: Rename) -> Usage:
    given = [
        name
        for name, there in (
            ("tokens", event.tokens is not None),
            ("kinds of tokens", any(event.kinds())),
            ("usage", bool(event.usage)),
        )
        if there
    ]
    if len(given) > 1:
        raise ValueError(f"expected tokens, kinds of tokens or usage, got {' and '.join(given)}")
    cost = None if event.cost_usd is None else nano_usd(event.cost_usd)
    written_1h = 0
    if event.usage:
        said = _usage_object(event.usage)
        tokens, written_1h = said.tokens, said.cache_write_1h
        cost = said.cost_nano_usd if cost is None else cost
    elif event.tokens is not None:
        tokens = Tokens(unspecified=event.tokens)
    else:
        tokens = Tokens(*event.kinds())
    return Usage(
        provider=rename(event.provider, event.model),
        tokens=tokens,
        model=event.model,
        id=event.id,
        timestamp=_moment(event.timestamp),
        requests=event.requests,
        consumer=event.consumer,
        cost_nano_usd=cost,
        cache_write_1h=written_1h,
    )


def _usage_object(usage: msgspec.Raw) -> UsageObject:
    try:
        return read_usage(_object.decode(usage))
    except _FAULTS as error:
        raise ValueError(f"usage: {_words(error)}") from error


def _moment(timestamp: float | str | None) -> float | None:
    """Unix seconds of a timestamp in either form."""
    if not isinstance(timestamp, str):
        return timestamp
    try:
        return unix_seconds(timestamp)
    except ValueError:
        raise ValueError(
            f"timestamp: expected Unix seconds or RFC 3339 with a zone, got {timestamp[:64]!r}"
        ) from None


def _message(error: Exception, item: bytes) -> str:
    """The decoder's words with the place first and the value last: `tokens: expected …, got -5`."""
    words, at, path = str(error).rpartition(" - at `$.")
    if not at:
        return _words(error)
    field = path.rstrip("`")
    expected = f"{field}: {words[:1].lower()}{words[1:].partition(', got')[0]}"
    try:
        value = repr(_object.decode(item).get(field))
    except _FAULTS:  # a number no float can hold
        return expected
    return f"{expected}, got {value[:_MAX_SHOWN]}"


def _words(error: Exception) -> str:
    """What is wrong with something as a whole, without repeating much of it."""
    if isinstance(error, RecursionError):
        return "expected JSON nested less deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"expected UTF-8, got the byte 0x{error.object[error.start]:02x}"
    words = str(error)
    if not words.startswith("JSON"):
        words = words[:1].lower() + words[1:]
    return words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}…"


def _read(push: Push, context: Context) -> Reading:
    rename = context.naming.of_model
    return Reading(batch=read(push.body, rename, context.batcher, context.key, context.max_items))


FORMAT = Format(
    path="/v1/usage",
    source="usage",
    summary="Push usage: one event, an array of them, or NDJSON.",
    read=_read,
    media_types=JSON_TYPES,
    encoding=JSON_ANSWERS,
    item=Event,
)
