"""Prometheus' remote write, 1.0 and 2.0: counters of usage that a Prometheus has already.

Counters come without the time they began at. So a series counts from the first sample that is
seen of it; a lower value later than a higher one is a counter that began anew; an earlier sample
than the last, or the same one from the other Prometheus of a pair, says nothing new. Staleness
markers are no values.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from exporter.core.usage import ReportedCall, Tokens, Usage
from exporter.intake import rejections
from exporter.intake.batching import digest
from exporter.intake.format import Context, Encoding, Format, Push
from exporter.intake.naming import BY_RULE, UNKNOWN_PROVIDER, Naming
from exporter.intake.otlp_ranks import keys
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_token_metrics import Role
from exporter.intake.prometheus_families import (
    ANSWERED_LABEL,
    ATTRIBUTES,
    MODEL_LABELS,
    PROVIDER_LABELS,
    REPLICA_LABELS,
    SERIES,
    Meaning,
    role_of,
)
from exporter.intake.protobuf_size import check_messages
from exporter.intake.reading import MalformedBody, Reading, check_items
from exporter.intake.remote_write_messages import RequestV1, RequestV2
from exporter.intake.usage_object import count
from exporter.storage.contract import Answer

MEDIA_TYPE = "application/x-protobuf"

_NANO = 10**9


class _Series(NamedTuple):
    """One series of a request.

    Attributes:
        labels: its name among them, as `__name__`.
        created: Unix seconds at which it was zero, 0 when unknown.
        samples: (Unix seconds, value).
    """

    labels: dict[str, str]
    created: float
    samples: list[tuple[float, float]]


class _Counter(NamedTuple):
    """What a series counts, and of whom.

    Attributes:
        identity: of all the series that are read together with it.
        role: of tokens; None for requests and cost.
    """

    meaning: Meaning
    role: Role | None
    identity: str
    provider: str
    model: str
    service: str
    created: float


def read_write(body: bytes, naming: Naming, sources: Sources, now: float, most: int) -> Reading:
    """Read a write request; rejections are indexed by series.

    Raises:
        MalformedBody: it is not one, or has more than `most` samples, or series.
    """
    reading = Reading()
    groups: dict[tuple[float, str, str], list[tuple[_Counter, int]]] = {}
    for index, series in enumerate(_decoded(body)):
        reading.items += len(series.samples)
        check_items(max(reading.items, index + 1), most)
        values = [sample for sample in series.samples if not math.isnan(sample[1])]
        with rejections.item(reading.rejected, index):
            counter = _counter(series, naming, reading)
            if counter is None:
                continue
            scale = _NANO if counter.meaning.what == "cost" else 1
            name = series.labels["__name__"]
            whole = counter.role.whole if counter.role else counter.meaning.what
            for at, value in values:
                total = round(value * scale) if scale > 1 and 0 <= value < 1e9 else value
                place = groups.setdefault((at, counter.identity, whole), [])
                place.append((counter, count(total, name)))
    for (at, _, _), group in sorted(groups.items()):
        _add_usage(at, group, sources, now, reading)
    return reading


def _decoded(body: bytes) -> Iterator[_Series]:
    """The series of a request of either version: their fields have different numbers."""
    check_messages(body, RequestV2)
    check_messages(body, RequestV1)
    try:
        request = RequestV2.FromString(body)
        if not request.timeseries and not request.symbols:
            for one in RequestV1.FromString(body).timeseries:
                labels = {label.name: label.value for label in one.labels}
                yield _Series(labels, 0.0, _samples(one))
            return
    except DecodeError as error:
        raise MalformedBody(f"body: expected a remote write request, {error}") from error
    symbols = request.symbols
    for one in request.timeseries:
        refs = one.labels_refs
        if len(refs) % 2 or any(ref >= len(symbols) for ref in refs):
            raise MalformedBody("labels_refs: expected pairs of references to symbols")
        pairs = zip(refs[::2], refs[1::2], strict=True)
        labels = {symbols[name]: symbols[value] for name, value in pairs}
        yield _Series(labels, one.created_timestamp / 1000, _samples(one))


def _samples(one: Any) -> list[tuple[float, float]]:
    return [(sample.timestamp / 1000, sample.value) for sample in one.samples]


def _counter(series: _Series, naming: Naming, reading: Reading) -> _Counter | None:
    """What a series counts; None, and said in the reading, when nothing of ours."""
    labels = series.labels
    meaning = SERIES.get(labels.get("__name__", ""))
    if meaning is None:
        _uncharge(reading, "not_usage", len(series.samples))
        return None
    role = role_of(meaning, labels)
    known = labels.get(meaning.type_label, "") in meaning.roles
    if meaning.what == "requests" and meaning.roles:
        # Every operation is counted once with its input.
        if role is None or role.part or role.kind != "input":
            return None
        role = None
    elif meaning.what == "tokens" and role is None:
        _uncharge(reading, "total" if known else "unknown_token_type", len(series.samples))
        return None
    found = {name: _first(labels, among) for name, among in ATTRIBUTES.items()}
    model = naming.model(_first(labels, MODEL_LABELS), labels.get(ANSWERED_LABEL, ""))
    reported = _first(labels, PROVIDER_LABELS) or meaning.provider
    model = model.removeprefix(f"{reported}/")
    attributes = {**found, "model": model}
    if not naming.counts(reported, attributes):
        _uncharge(reading, BY_RULE, len(series.samples))
        return None
    provider = naming.of_call(reported, attributes)
    if not provider:
        _uncharge(reading, UNKNOWN_PROVIDER, len(series.samples))
        return None
    left_out = REPLICA_LABELS | {"__name__", meaning.type_label}
    parts = (f"{name}\1{value}" for name, value in sorted(labels.items()) if name not in left_out)
    identity = digest("prometheus", meaning.what, meaning.base, *parts).hex()
    return _Counter(meaning, role, identity, provider, model, found["service"], series.created)


def _first(labels: Mapping[str, str], among: tuple[str, ...]) -> str:
    return next((labels[name] for name in among if labels.get(name)), "")


def _add_usage(
    at: float, group: list[tuple[_Counter, int]], sources: Sources, now: float, reading: Reading
) -> None:
    """Add what one whole and its parts stand at."""
    whole = next((one for one in group if one[0].role is None or not one[0].role.part), None)
    if whole is None:
        _uncharge(reading, "part_without_whole", len(group))
        return
    counter, total = whole
    since = 0.0
    if counter.meaning.source is not None:
        services = keys(counter.service, counter.provider, counter.model)
        turn = sources.decide(services, counter.meaning.source, at, now)
        if turn.reason:
            _uncharge(reading, turn.reason, len(group))
            return
        since = turn.since
    tokens, requests, cost = Tokens(), 0, None
    if counter.role is None:
        requests, cost = (total, None) if counter.meaning.what == "requests" else (0, total)
    else:
        kinds, rest = dict.fromkeys(Tokens._fields, 0), total
        for part, value in group:
            if part.role is not None and part.role.part:
                taken = min(value, rest)
                kinds[part.role.kind] += taken
                rest -= taken
        kinds[counter.role.kind] += rest
        tokens = Tokens(**kinds)
    begun = counter.created if since <= counter.created else 0.0
    reading.usages.append(
        Usage(
            provider=counter.provider,
            tokens=tokens,
            model=counter.model,
            timestamp=at,
            requests=requests,
            stream=f"{counter.identity}/{counter.role and counter.role.whole}/{since or begun!r}",
            started=begun or at,
            sampled=not begun,
            cost_nano_usd=cost,
            call=ReportedCall(_reporter(counter), ()),
        )
    )


def _reporter(counter: _Counter) -> str:
    """Who counts: of what may come by OTLP as well, of which only one source counts, the same name
    as there."""
    meaning = counter.meaning
    return counter.service if meaning.source else f"Prometheus: {meaning.base} {counter.service}"


def _uncharge(reading: Reading, reason: str, items: int) -> None:
    reading.uncharged[reason] = reading.uncharged.get(reason, 0) + items


def _read(push: Push, context: Context) -> Reading:
    return read_write(
        push.body, context.naming, context.reports.sources, context.now, context.max_items
    )


def _answer(answer: Answer, media_type: str) -> bytes:
    return b""


def _error(error: str, media_type: str) -> bytes:
    return error.encode()  # Prometheus logs the first line


def _headers(items: int) -> Mapping[str, str]:
    """What of a request was taken in: all of it, since a sender can do nothing about the rest."""
    return {
        "x-prometheus-remote-write-samples-written": str(items),
        "x-prometheus-remote-write-histograms-written": "0",
        "x-prometheus-remote-write-exemplars-written": "0",
    }


FORMAT = Format(
    path="/api/v1/write",
    source="remote_write",
    summary="Receive Prometheus' remote write, 1.0 and 2.0.",
    read=_read,
    media_types=(MEDIA_TYPE,),
    encoding=Encoding(
        _answer, _error, echoes=True, partial_success=True, headers=_headers, later=503
    ),
    compression=("snappy",),
)
