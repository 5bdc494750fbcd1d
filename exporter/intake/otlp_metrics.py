"""OTLP metrics that count tokens, delta and cumulative, as usage.

Every counter of a whole (all input, all output) becomes one usage or one stream, its parts
(cached, reasoning) taken out of it; so the sum is the whole's, whatever becomes of the parts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    Metric,
)

from exporter.core.usage import Tokens, Usage
from exporter.intake import rejections
from exporter.intake.format import Context, Format, Push
from exporter.intake.naming import Naming
from exporter.intake.otlp import (
    MEDIA_TYPES,
    add,
    answers,
    attributes_of,
    decode,
    digest,
    first,
    is_alone,
    metrics_answer,
    texts,
    uncharge,
)
from exporter.intake.otlp_families import METRICS, Role
from exporter.intake.otlp_reports import Report, Reports
from exporter.intake.otlp_sources import Keys, Source, keys
from exporter.intake.reading import Reading
from exporter.intake.usage_object import count

_PROVIDER = ("gen_ai.provider.name", "gen_ai.system")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model", "model")
_ANSWERED = ("gen_ai.response.model",)
_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_NOT_RECORDED = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


_Placed = tuple[str, Mapping[str, str], str, Metric, Any]
"""Digest of the resource, what it says of itself, scope, metric and one of its data points."""


class _Point(NamedTuple):
    """A data point of a counter of tokens.

    Attributes:
        role: what it counts.
        identity: digest of what it belongs to, its token type left out.
        services: what has one source at a time: see `Sources.decide`.
        source: which of its sources this is.
        library: name of the instrumentation scope.
        alone: whether the reporter is known to have no other source.
        provider, model, consumer: names, the provider's is canonical.
        tokens, requests: its value; requests are 0 where the metric does not count them.
        cumulative: since `start`, rather than since the report before.
        start, end: Unix seconds, 0 when unknown.
    """

    role: Role
    identity: str
    services: Keys
    source: Source
    library: str
    alone: bool
    provider: str
    model: str
    consumer: str
    tokens: int
    requests: int
    cumulative: bool
    start: float
    end: float


def read_metrics(
    body: bytes, content_type: str, naming: Naming, reports: Reports, now: float
) -> Reading:
    """Read an `ExportMetricsServiceRequest`; rejections are indexed by data point over it.

    Metrics that do not count tokens are passed over.

    Raises:
        MalformedBody: it is not one.
    """
    request = decode(body, content_type, ExportMetricsServiceRequest())
    reading = Reading()
    groups: dict[tuple[str, str, int], list[_Point]] = {}
    occurrences: Counter[tuple[str, Role]] = Counter()
    for index, placed in enumerate(_placed(request, naming)):
        point = None
        with rejections.item(reading.rejected, index):
            try:
                point = _point(placed, naming, reading)
            except ValueError as error:
                raise ValueError(f"{placed[3].name}: {error}") from error
        if point is not None:
            # Collectors put several exports into one request: the nth point of a part belongs
            # to the nth of its whole. Times do not tell, SDKs take a new one for every metric.
            nth = occurrences[point.identity, point.role]
            occurrences[point.identity, point.role] += 1
            groups.setdefault((point.identity, point.role.whole, nth), []).append(point)
    for group in groups.values():
        _add_usage(group, reports, now, reading)
    return reading


def _placed(request: ExportMetricsServiceRequest, naming: Naming) -> Iterator[_Placed]:
    for resource_metrics in request.resource_metrics:
        origin = digest(resource_metrics.resource.attributes)
        reporter = attributes_of(resource_metrics.resource, naming)
        for scope in resource_metrics.scope_metrics:
            for metric in scope.metrics:
                data = metric.WhichOneof("data")
                points = getattr(metric, data).data_points if data else ()
                yield from ((origin, reporter, scope.scope.name, metric, point) for point in points)


def _point(placed: _Placed, naming: Naming, reading: Reading) -> _Point | None:
    origin, reporter, scope, metric, point = placed
    family, told = METRICS.get(metric.name, (None, ""))
    if family is None or point.flags & _NOT_RECORDED:
        return None
    wanted = naming.otel_attributes | {*_PROVIDER, *_MODEL, family.attribute}
    found = texts(point.attributes, wanted)
    token_type = told or str(found.get(family.attribute, ""))
    role = family.types.get(token_type)
    if role is None:
        uncharge(reading, "total" if token_type in family.types else "unknown_token_type")
        return None
    model = first(found, _MODEL)
    reported = first(found, _PROVIDER) or family.provider
    own = {name: str(found[name]) for name in naming.otel_attributes if name in found}
    attributes = {**reporter, **own, "model": model}
    provider = naming.name(reported, attributes)
    if not provider:
        raise ValueError(f"{_PROVIDER[0]}: expected a name, got none")
    tokens, requests = _value(metric, point)
    cumulative = _is_cumulative(metric)
    if not cumulative and not point.time_unix_nano:
        raise ValueError("time_unix_nano: expected the end of a delta's interval, got 0")
    name = metric.name.removesuffix(told)
    return _Point(
        role,
        digest(point.attributes, origin, scope, name, without=(family.attribute,)),
        keys(reporter["service"], provider, model, first(found, _ANSWERED)),
        family.source,
        scope,
        is_alone(reporter),
        provider,
        model,
        naming.consumer(attributes),
        tokens,
        requests if role == Role("input", "input") else 0,
        cumulative,
        point.start_time_unix_nano / 1e9,
        point.time_unix_nano / 1e9,
    )


def _value(metric: Metric, point: Any) -> tuple[int, int]:
    """Tokens, and the requests they belong to where the metric knows."""
    data = metric.WhichOneof("data")
    if data == "sum":
        if not metric.sum.is_monotonic:
            raise ValueError("is_monotonic: expected a counter, got false")
        field = point.WhichOneof("value")
        return count(getattr(point, field) if field else None, field or "value"), 0
    if data in ("histogram", "exponential_histogram"):
        if not point.HasField("sum"):
            raise ValueError("sum: expected the sum of a histogram, got none")
        return count(point.sum, "sum"), count(point.count, "count")
    raise ValueError(f"expected a sum or a histogram, got a {data}")


def _is_cumulative(metric: Metric) -> bool:
    temporality = getattr(metric, metric.WhichOneof("data") or "").aggregation_temporality
    if temporality not in (_DELTA, _CUMULATIVE):
        raise ValueError(f"aggregation_temporality: expected 1 or 2, got {temporality}")
    return bool(temporality == _CUMULATIVE)


def _add_usage(group: list[_Point], reports: Reports, now: float, reading: Reading) -> None:
    """Add what one whole and its parts come to."""
    whole = next((point for point in group if not point.role.part), None)
    if whole is None:
        uncharge(reading, "part_without_whole", len(group))
        return
    kinds = dict.fromkeys(Tokens._fields, 0)
    rest = whole.tokens
    for part in group:
        if part.role.part:
            taken = min(part.tokens, rest)
            kinds[part.role.kind] += taken
            rest -= taken
    kinds[whole.role.kind] += rest
    usage = Usage(
        provider=whole.provider,
        tokens=Tokens(**kinds),
        model=whole.model,
        consumer=whole.consumer,
        timestamp=whole.end or None,
        requests=whole.requests,
    )
    # Replicas without a `service.instance.id` differ in nothing but when they began.
    counter = f"{whole.identity}/{whole.role.whole}/{whole.start!r}"
    reports.sources.add_metric(
        whole.services, whole.library, counter, whole.tokens, whole.cumulative
    )
    report = Report(
        FORMAT.path,
        whole.services,
        whole.source,
        usage,
        whole.end or now,
        whole.start or (0.0 if whole.cumulative else whole.end),
        counter,
        whole.cumulative,
    )
    add(reading, reports.take(report, now, alone=whole.alone), len(group))


def _read(push: Push, context: Context) -> Reading:
    return read_metrics(push.body, push.media_type, context.naming, context.reports, context.now)


FORMAT = Format(
    path="/v1/metrics",
    source="otlp_metrics",
    summary="Receive OTLP metrics.",
    read=_read,
    media_types=MEDIA_TYPES,
    encoding=answers(metrics_answer),
)
