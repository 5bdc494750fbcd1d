"""`import`: fill a new installation's history from counters that a Prometheus has kept.

Every series is read at regular moments and sent on as a remote write, the oldest first. The
exporter remembers of each counter how far it has been counted, so a second run adds only what
the first did not get to, and whoever is interrupted simply begins again.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import cramjam
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import arguments
from exporter.cli.http import Unreachable, send
from exporter.cli.http import add_arguments as add_connection
from exporter.cli.settings import bearer_token
from exporter.core.windows import DAY, HOUR, format_duration, parse_duration
from exporter.intake import remote_write
from exporter.intake.prometheus_families import GENERIC_TOKENS, SERIES
from exporter.intake.remote_write_messages import RequestV1
from exporter.terminal import progress

WINDOW = 6 * HOUR  # seconds that one query covers
SAMPLES = 20_000  # in one request to the exporter
TIMEOUT = 120.0  # seconds; Prometheus' own is as long
TRIES = 10  # when the exporter is busy

_AGGREGATION = re.compile(
    r"\b(sum|avg|min|max|count|topk|bottomk|quantile|rate|irate|increase|delta)\b"
    r"\s*(?:by\b|without\b|\()"
)

Sample = tuple[float, float]
Series = tuple[dict[str, str], list[Sample]]


class _Span(NamedTuple):
    """Unix seconds, both ends included."""

    start: float
    end: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to read, and from when on."""
    add_connection(parser)
    parser.add_argument("--prometheus", required=True, metavar="URL", help="whose counters to read")
    parser.add_argument(
        "--prometheus-token-file", type=Path, metavar="FILE", help="file with a bearer token for it"
    )
    parser.add_argument(
        "--since",
        type=_duration,
        default=_duration("35d"),
        metavar="DURATION",
        help="how far back (default: 35d, as long as the exporter keeps history)",
    )
    parser.add_argument(
        "--until",
        type=arguments.moment,
        metavar="TIME",
        help="RFC 3339: from when on the exporter counts by itself (default: now)",
    )
    parser.add_argument(
        "--step",
        type=_duration,
        default=_duration("5m"),
        metavar="DURATION",
        help="between two samples (default: 5m; no longer, or Prometheus finds none)",
    )
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="EXPR",
        help="a selector of other counters of tokens with the labels provider and model, and kind "
        "if they have one; may be given several times (default: all counters that are known)",
    )


def run(options: argparse.Namespace) -> int:
    """0 when everything was sent."""
    try:
        return _run(options, time.time())
    except (Unreachable, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, now: float) -> int:
    for query in options.query:
        if match := _AGGREGATION.search(query):
            raise ValueError(
                f"--query: expected counters as they are, since a restart cannot be seen in "
                f"{match[1]}(…), got {query!r}"
            )
    before = _events(options)
    others = sorted(source for source, outcome in before if _counts_itself(source, outcome))
    if others and options.until is None:
        raise ValueError(
            f"--until: expected, since the exporter counts usage already (from "
            f"{', '.join(others)}), which Prometheus may have, too"
        )
    end = min(now, options.until or now) // options.step * options.step
    spans = list(_spans(end - options.since, end, options.step))
    found: Counter[str] = Counter()
    with progress(len(spans), "importing") as show:
        for done, span in enumerate(spans, 1):
            series = _read(options, span)
            found.update({labels["__name__"]: len(samples) for labels, samples in series})
            for body in _bodies(series):
                _write(options, body)
            show(done)
    for name, samples in sorted(found.items()):
        print(f"{name}: {samples} samples")
    after = _events(options)
    counted = {
        outcome: after[remote_write.FORMAT.source, outcome] - before[source, outcome]
        for source, outcome in sorted(after)
        if source == remote_write.FORMAT.source
    }
    print(
        ", ".join(f"{outcome} {number}" for outcome, number in counted.items()) or "nothing found"
    )
    return 1 if counted.get("rejected") else 0


def _events(options: argparse.Namespace) -> Counter[tuple[str, str]]:
    """(source, outcome) -> how many items the exporter has had of it."""
    text = send(options, "/metrics").decode()
    return Counter(
        {
            (sample.labels["source"], sample.labels["outcome"]): int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "llm_quota_events_total" and sample.value
        }
    )


def _counts_itself(source: str, outcome: str) -> bool:
    return outcome == "accepted" and source not in (remote_write.FORMAT.source, "signals")


def _spans(start: float, end: float, step: float) -> Iterator[_Span]:
    """The time from `start` to `end` in parts that have no moment in common."""
    length = max(step, WINDOW // step * step)
    at = start // step * step
    while at <= end:
        yield _Span(at, min(at + length - step, end))
        at += length


def _read(options: argparse.Namespace, span: _Span) -> list[Series]:
    """All series in a span of time."""
    known = "|".join(re.escape(name) for name in sorted(SERIES))
    found = []
    for query in options.query or [f'{{__name__=~"{known}"}}']:
        for one in _query(options, query, span):
            labels = {str(name): str(value) for name, value in one["metric"].items()}
            if options.query:
                labels["__name__"] = GENERIC_TOKENS
            samples = [(float(at), float(value)) for at, value in one["values"]]
            found.append((labels, samples))
    return found


def _query(options: argparse.Namespace, query: str, span: _Span) -> list[dict[str, Any]]:
    url = options.prometheus.rstrip("/") + "/api/v1/query_range"
    if not url.startswith(("http://", "https://")):
        raise Unreachable(f"--prometheus: expected http:// or https://, got {options.prometheus!r}")
    headers = {}
    if options.prometheus_token_file:
        try:
            token = bearer_token(options.prometheus_token_file).decode()
        except (OSError, ValueError) as error:
            raise Unreachable(f"--prometheus-token-file: {error}") from error
        headers["Authorization"] = f"Bearer {token}"
    form = {"query": query, "start": span.start, "end": span.end, "step": options.step}
    request = Request(url, urlencode(form).encode(), headers)  # noqa: S310 - the scheme was checked
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - see above
            answer = json.load(response)
    except HTTPError as error:
        raise Unreachable(
            f"{url}: {error.code} {error.read(500).decode(errors='replace')}"
        ) from error
    except (HTTPException, URLError, OSError, ValueError) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}") from error
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def _bodies(series: list[Series]) -> Iterator[bytes]:
    """Write requests, the oldest samples first: those of one moment are in one request."""
    moments: dict[float, list[tuple[int, float]]] = {}
    for index, (_, samples) in enumerate(series):
        for at, value in samples:
            moments.setdefault(at, []).append((index, value))
    request, size, added = RequestV1(), 0, dict[int, Any]()
    for at in sorted(moments):
        if size + len(moments[at]) > SAMPLES and size:
            yield request.SerializeToString()
            request, size, added = RequestV1(), 0, {}
        for index, value in moments[at]:
            if index not in added:
                added[index] = request.timeseries.add()
                for name, text in sorted(series[index][0].items()):
                    added[index].labels.add(name=name, value=text)
            added[index].samples.add(timestamp=round(at * 1000), value=value)
        size += len(moments[at])
    if size:
        yield request.SerializeToString()


def _write(options: argparse.Namespace, body: bytes) -> None:
    headers = {"Content-Type": remote_write.MEDIA_TYPE, "Content-Encoding": "snappy"}
    packed = bytes(cramjam.snappy.compress_raw(body))
    for tried in range(1, TRIES + 1):
        try:
            send(options, remote_write.FORMAT.path, packed, **headers)
        except Unreachable as error:
            if error.status != 503 or tried == TRIES:
                raise
            time.sleep(1.0)
        else:
            return


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from error
    if not 1 <= seconds <= 400 * DAY:
        raise argparse.ArgumentTypeError(
            f"expected a duration from {format_duration(1)} to {format_duration(400 * DAY)}, "
            f"got {text!r}"
        )
    return seconds
