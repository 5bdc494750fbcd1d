"""A service that is heard for the first time: whatever it sends first, what says most counts."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.core.usage import Tokens
from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON
from exporter.intake.otlp_logs import read_logs
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_reports import HOLD, Reports
from exporter.intake.otlp_sources import SILENCE, Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import Reading
from tests.intake.otlp_bodies import (
    Books,
    logs_body,
    metric,
    metrics_body,
    point,
    record,
    span,
    traces_body,
)

T = 1_795_436_000.0
NAMING = Naming({}, [], ["openai"])
SDK = {"telemetry__sdk__language": "python"}
CUMULATIVE = 2
ASKED = {"gen_ai__provider__name": "openai", "gen_ai__request__model": "gpt-4o"}
WHOLE = Tokens(input=60, cache_read=40, output=50)


class Program:
    """One that makes a call, and reports it in several ways as it ends."""

    def __init__(self, reports: Reports, resource: dict[str, Any] | None = None) -> None:
        self.reports = reports
        self.resource = SDK if resource is None else resource
        self.books = Books(created=T - 100)

    def traces(self, now: float) -> Reading:
        usage = {
            "gen_ai__usage__input_tokens": 100,
            "gen_ai__usage__output_tokens": 50,
            "gen_ai__usage__cache_read__input_tokens": 40,
        }
        one = span(1, T, gen_ai__response__id="resp-1", **ASKED, **usage)
        body = traces_body([one], JSON, **self.resource)
        return self._add(read_traces(body, JSON, NAMING, self.reports, now))

    def metrics(self, now: float) -> Reading:
        points = [
            point(value, T - 60, T + 1, gen_ai__token__type=kind, **ASKED)
            for kind, value in (("input", 100), ("output", 50))
        ]
        one = metric("gen_ai.client.token.usage", points, CUMULATIVE, "histogram")
        body = metrics_body([one], JSON, **self.resource)
        return self._add(read_metrics(body, JSON, NAMING, self.reports, now))

    def logs(self, now: float) -> Reading:
        usage = {"gen_ai__usage__input_tokens": 100, "gen_ai__usage__output_tokens": 50}
        name = "gen_ai.client.inference.operation.details"
        body = logs_body([record(T, name=name, **ASKED, **usage)], JSON, **self.resource)
        return self._add(read_logs(body, JSON, NAMING, self.reports, now))

    def settle(self, now: float) -> list[str]:
        """The reasons of what is not counted."""
        settled = self.reports.settle(now)
        self.books.add(one.said for one in settled if not isinstance(one.said, str))
        return [one.said for one in settled if isinstance(one.said, str)]

    def _add(self, reading: Reading) -> Reading:
        assert reading.rejected == []
        self.books.add(reading.usages)
        return reading


@given(
    order=st.permutations(["traces", "metrics", "logs"]),
    with_traces=st.booleans(),
    repeated=st.booleans(),
)
def test_whatever_order_they_leave_in_each_call_counts_once_by_the_best(
    order: list[str], with_traces: bool, repeated: bool
) -> None:
    program = Program(Reports(Sources()))
    for at, name in enumerate(order * (1 + repeated)):
        if name != "traces" or with_traces:
            send: Callable[[float], Reading] = getattr(program, name)
            send(T + 2 + at / 10)
    assert program.settle(T + 3) == []
    program.settle(T + 3 + HOLD)
    expected = WHOLE if with_traces else Tokens(input=100, output=50)
    assert Tokens(*program.books.tokens) == expected
    assert program.books.requests == 1
    assert not program.reports.waiting


def test_what_waits_counts_once_nothing_better_came() -> None:
    program = Program(Reports(Sources()))
    assert program.metrics(T + 2) == Reading()
    assert program.reports.waiting
    program.settle(T + 2 + HOLD)
    assert Tokens(*program.books.tokens) == Tokens(input=100, output=50)
    # From then on the service is known, and nothing of it waits.
    assert not program.reports.waiting
    program.metrics(T + 60)
    assert sum(program.books.tokens) == 150


def test_what_yields_to_spans_says_so() -> None:
    program = Program(Reports(Sources()))
    program.metrics(T + 2)
    program.traces(T + 3)
    assert program.settle(T + 2 + HOLD) == ["counted_from_traces"] * 2


def test_a_reporter_that_is_no_process_waits_for_nothing() -> None:
    program = Program(Reports(Sources()), {})
    assert len(program.metrics(T + 2).usages) == 2


def test_a_known_service_waits_for_nothing() -> None:
    sources = Sources()
    first = Program(Reports(sources))
    first.metrics(T + 2)
    first.settle(T + 2 + HOLD)
    assert len(Program(Reports(sources)).metrics(T + 60).usages) == 2


def test_what_waits_outlives_a_restart() -> None:
    program = Program(Reports(Sources()))
    program.metrics(T + 2)
    stored = program.reports.documents()
    assert program.reports.documents() == {}
    program.reports = Reports(Sources())
    program.reports.follow(stored)
    program.settle(T + 2 + HOLD)
    assert sum(program.books.tokens) == 150
    assert "SECRET" not in repr(stored)


def test_its_own_document_brings_nothing_back() -> None:
    program = Program(Reports(Sources()))
    program.metrics(T + 2)
    stored = program.reports.documents()
    program.settle(T + 2 + HOLD)
    program.reports.follow({name: bytes(body) for name, body in stored.items()})
    assert not program.reports.waiting


def test_what_could_not_be_stored_is_held_again() -> None:
    program = Program(Reports(Sources()))
    program.metrics(T + 2)
    settled = program.reports.settle(T + 2 + HOLD)
    program.reports.put_back(settled)
    program.settle(T + 3 + HOLD)
    assert sum(program.books.tokens) == 150


def test_a_clock_that_was_set_back_holds_nothing_for_long() -> None:
    program = Program(Reports(Sources()))
    program.metrics(T + SILENCE)
    program.settle(T)
    assert sum(program.books.tokens) == 150


def test_a_push_writes_down_only_what_it_touches() -> None:
    reports = Reports(Sources())
    for number in range(300):
        Program(reports, {**SDK, "service__namespace": f"n{number}"}).metrics(T + 2)
    assert sum(map(len, reports.documents().values())) > 50_000
    Program(reports, {**SDK, "service__namespace": "n7"}).metrics(T + 3)
    changed = reports.documents()
    assert len(changed) == 1
    assert sum(map(len, changed.values())) < 10_000


def test_a_tool_under_another_name_waits_for_its_events_too() -> None:
    reports, books = Reports(Sources()), Books(created=T - 100)
    resource = {"process__pid": 7}
    one = metric("gemini_cli.token.usage", [point(100, T - 5, T + 1, type="input", model="m")], 2)
    body = metrics_body([one], JSON, "our-gemini", **resource)
    assert read_metrics(body, JSON, NAMING, reports, T + 2) == Reading()
    said = {"event.name": "gemini_cli.api_response", "model": "m", "input_token_count": 100}
    body = logs_body([record(T, **said)], JSON, "our-gemini", **resource)
    books.add(read_logs(body, JSON, NAMING, reports, T + 3).usages)
    settled = reports.settle(T + 2 + HOLD)
    assert [one.said for one in settled] == ["counted_from_tool_events"]
    assert (sum(books.tokens), books.requests) == (100, 1)
