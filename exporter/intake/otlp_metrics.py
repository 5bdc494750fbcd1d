"""OTLP metrics that count tokens, delta and cumulative, as usage.

Every counter of a whole (all input, all output) becomes one usage or one stream, its parts
(cached, reasoning) taken out of it; so the sum is the whole's, whatever becomes of the parts.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from exporter.core.usage import ReportedCall, Tokens, Usage
from exporter.intake import rejections
from exporter.intake.format import Context, Format, Push
from exporter.intake.naming import Naming
from exporter.intake.otlp import (
    MEDIA_TYPES,
    add,
    answers,
    decode,
    metrics_answer,
    uncharge,
)
from exporter.intake.otlp_points import Point, points, read_point
from exporter.intake.otlp_reports import Report, Reports
from exporter.intake.otlp_token_metrics import COST, REQUESTS, Role
from exporter.intake.reading import Reading


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
    groups: dict[tuple[str, str, int], list[Point]] = {}
    occurrences: Counter[tuple[str, Role]] = Counter()
    for index, placed in enumerate(points(request, naming)):
        point = None
        with rejections.item(reading.rejected, index):
            try:
                point = read_point(placed, naming, reading)
            except ValueError as error:
                raise ValueError(f"{placed.metric.name}: {error}") from error
        if point is not None:
            # Collectors put several exports into one request: the nth point of a part belongs
            # to the nth of its whole. Times do not tell, SDKs take a new one for every metric.
            nth = occurrences[point.identity, point.role]
            occurrences[point.identity, point.role] += 1
            groups.setdefault((point.identity, point.role.whole, nth), []).append(point)
    beside = _Beside.of(groups.values())
    for group in groups.values():
        _add_usage(group, beside, reports, now, reading)
    return reading


class _Beside(NamedTuple):
    """What else a request says of those whose tokens it counts.

    Attributes:
        without_requests: whose tokens come without the number of requests.
        with_cost: whose cost is told apart.
    """

    without_requests: frozenset[str]
    with_cost: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[list[Point]]) -> "_Beside":
        points = [one for group in groups for one in group]
        return cls(
            frozenset(
                name
                for one in points
                if one.source == "inference_metrics" and one.role.whole != REQUESTS
                for name in one.services
            ),
            frozenset(name for one in points if one.role.whole == COST for name in one.services),
        )


def _add_usage(
    group: list[Point], beside: _Beside, reports: Reports, now: float, reading: Reading
) -> None:
    """Add what one whole and its parts come to."""
    whole = next((point for point in group if not point.role.part), None)
    if whole is None:
        uncharge(reading, "part_without_whole", len(group))
        return
    if whole.role.whole == REQUESTS and beside.without_requests.isdisjoint(whole.services):
        return  # the metric of the tokens counts them, or there is none
    # Replicas without a `service.instance.id` differ in nothing but when they began.
    counter = f"{whole.identity}/{whole.role.whole}/{whole.start!r}"
    if whole.role.whole not in (REQUESTS, COST):
        reports.sources.add_metric(
            whole.services, whole.library, counter, whole.value, whole.cumulative
        )
    report = Report(
        FORMAT.path,
        whole.services,
        whole.source,
        _usage(whole, group, beside),
        whole.end or now,
        whole.start or (0.0 if whole.cumulative else whole.end),
        counter,
        whole.cumulative,
    )
    add(reading, reports.counted(report, now, alone=whole.alone), len(group))


def _usage(whole: Point, group: list[Point], beside: _Beside) -> Usage:
    usage = Usage(
        whole.provider,
        Tokens(),
        whole.model,
        timestamp=whole.end or None,
        consumer=whole.consumer,
        requests=whole.requests,
        cost_nano_usd=None if beside.with_cost.isdisjoint(whole.services) else 0,
        call=ReportedCall(whole.service, ()),
    )
    if whole.role.whole == REQUESTS:
        return replace(usage, requests=whole.value, cost_nano_usd=0)
    if whole.role.whole == COST:
        return replace(usage, cost_nano_usd=whole.value)
    kinds = dict.fromkeys(Tokens._fields, 0)
    rest = whole.value
    for part in group:
        if part.role.part:
            taken = min(part.value, rest)
            kinds[part.role.kind] += taken
            rest -= taken
    kinds[whole.role.kind] += rest
    return replace(usage, tokens=Tokens(**kinds))


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
