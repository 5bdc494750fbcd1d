"""Data points of the metrics that count tokens, requests and cost, whatever they are made of."""

import re
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

from exporter.intake.naming import BY_RULE, UNKNOWN_PROVIDER, Naming
from exporter.intake.otlp import attributes_of, digest, first, is_alone, texts, uncharge
from exporter.intake.otlp_ranks import Keys, Source, keys
from exporter.intake.otlp_token_metrics import (
    BESIDE,
    COST,
    METRICS,
    REQUESTS,
    Role,
    looks_like_usage,
)
from exporter.intake.reading import Reading
from exporter.intake.spans.convention import CACHE_HIT
from exporter.intake.usage_object import count, nano_usd

_PROVIDER = ("gen_ai.provider.name", "gen_ai.system")
_MODEL = ("gen_ai.request.model", "model")
_ANSWERED = ("gen_ai.response.model",)
_ERROR = "error.type"
_HIDDEN = "hidden_params"
_ANSWERED_BY_CACHE = re.compile(r'"cache_key": "[^"]')
"""What LiteLLM adds to the metrics of what its own cache answered."""
_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_NOT_RECORDED = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


UNKNOWN = "unknown_metric"
"""Why a metric is not counted that seems to count tokens, nobody knows how."""


class Placed(NamedTuple):
    """A data point, and where it is.

    Attributes:
        origin: digest of the resource.
        reporter: what the resource says of itself.
        library: name of the instrumentation scope.
        metric: it is one of this one's.
        point: it.
    """

    origin: str
    reporter: Mapping[str, str]
    library: str
    metric: Metric
    point: Any


class Point(NamedTuple):
    """A data point of a counter of tokens.

    Attributes:
        role: what it counts.
        identity: digest of what it belongs to, its token type left out.
        service: who reports.
        services: what has one source at a time: see `Sources.decide`.
        source: which of its sources this is.
        library: name of the instrumentation scope.
        alone: whether the reporter is known to have no other source.
        provider, model, consumer: names, the provider's is canonical.
        value: tokens, requests or nano-US-dollars, as its role says.
        requests: that tokens belong to; 0 where the metric does not count them.
        cumulative: since `start`, rather than since the report before.
        start, end: Unix seconds, 0 when unknown.
    """

    role: Role
    identity: str
    service: str
    services: Keys
    source: Source
    library: str
    alone: bool
    provider: str
    model: str
    consumer: str
    value: int
    requests: int
    cumulative: bool
    start: float
    end: float


def points(request: ExportMetricsServiceRequest, naming: Naming) -> Iterator[Placed]:
    """Every data point of a request, in its order."""
    for resource_metrics in request.resource_metrics:
        origin = digest(resource_metrics.resource.attributes)
        reporter = attributes_of(resource_metrics.resource, naming)
        for scope in resource_metrics.scope_metrics:
            for metric in scope.metrics:
                data = metric.WhichOneof("data")
                data_points = getattr(metric, data).data_points if data else ()
                yield from (
                    Placed(origin, reporter, scope.scope.name, metric, point)
                    for point in data_points
                )


def read_point(placed: Placed, naming: Naming, reading: Reading) -> Point | None:
    """What a data point counts; None, and why in the reading where that is of interest, when it
    counts nothing.

    Raises:
        ValueError: it counts something, and is wrong.
    """
    origin, reporter, scope, metric, point = placed
    family, kind = METRICS.get(metric.name) or BESIDE.get(metric.name) or (None, "")
    if point.flags & _NOT_RECORDED:
        return None
    if family is None:
        if looks_like_usage(metric.name):
            uncharge(reading, UNKNOWN)
        return None
    wanted = naming.otel_attributes | {
        *_PROVIDER,
        *_MODEL,
        *_ANSWERED,
        _ERROR,
        _HIDDEN,
        family.attribute,
    }
    found = texts(point.attributes, wanted)
    if kind == REQUESTS and _ERROR in found:
        return None  # nothing was used
    token_type = kind or str(found.get(family.attribute, ""))
    role = family.types.get(token_type)
    if role is None:
        uncharge(reading, "total" if token_type in family.types else "unknown_token_type")
        return None
    if _ANSWERED_BY_CACHE.search(str(found.get(_HIDDEN, ""))):
        uncharge(reading, CACHE_HIT)
        return None
    answered = first(found, _ANSWERED)
    model = naming.model(first(found, _MODEL), answered)
    reported = first(found, _PROVIDER) or family.provider
    own = {name: str(found[name]) for name in naming.otel_attributes if name in found}
    attributes = {**reporter, **own, "model": model}
    if not naming.counts(reported, attributes):
        uncharge(reading, BY_RULE)
        return None
    provider = naming.of_call(reported, attributes)
    if not provider and kind == REQUESTS:
        return None  # it is every client's
    if not provider:
        uncharge(reading, UNKNOWN_PROVIDER)
        return None
    value, requests = _value(metric, point, kind)
    cumulative = _is_cumulative(metric)
    if not cumulative and not point.time_unix_nano:
        raise ValueError("time_unix_nano: expected the end of a delta's interval, got 0")
    name = metric.name.removesuffix(kind)
    return Point(
        role,
        digest(point.attributes, origin, scope, name, without=(family.attribute,)),
        reporter["service"],
        keys(reporter["service"], provider, model, answered),
        family.source,
        scope,
        is_alone(reporter),
        provider,
        model,
        naming.consumer(attributes),
        value,
        requests if role == Role("input", "input") else 0,
        cumulative,
        point.start_time_unix_nano / 1e9,
        point.time_unix_nano / 1e9,
    )


def _value(metric: Metric, point: Any, what: str) -> tuple[int, int]:
    """What the point says of `what`, and the requests that tokens belong to where it knows."""
    data = metric.WhichOneof("data")
    if data == "sum":
        if not metric.sum.is_monotonic:
            raise ValueError("is_monotonic: expected a counter, got false")
        field = point.WhichOneof("value") or "value"
        number = getattr(point, field, None)
        return (nano_usd(number, field) if what == COST else count(number, field)), 0
    if data in ("histogram", "exponential_histogram"):
        if what == REQUESTS:
            return count(point.count, "count"), 0
        if not point.HasField("sum"):
            raise ValueError("sum: expected the sum of a histogram, got none")
        if what == COST:
            return nano_usd(point.sum, "sum"), 0
        return count(point.sum, "sum"), count(point.count, "count")
    raise ValueError(f"expected a sum or a histogram, got a {data}")


def _is_cumulative(metric: Metric) -> bool:
    temporality = getattr(metric, metric.WhichOneof("data") or "").aggregation_temporality
    if temporality not in (_DELTA, _CUMULATIVE):
        raise ValueError(f"aggregation_temporality: expected 1 or 2, got {temporality}")
    return bool(temporality == _CUMULATIVE)
