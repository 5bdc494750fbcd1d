"""The same tokens reported twice count once: one source per service, with a clean cut between."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_ranks import keys
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import MAX_TOGETHER, SILENCE, Sources, merge
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import Reading
from tests.intake.otlp_bodies import Books, metric, metrics_body, point, span, traces_body

T = 1_795_436_000.0
NAMING = Naming({}, [], ["openai", "gemini"])
DELTA, CUMULATIVE = 1, 2
OPENAI = {"gen_ai__provider__name": "openai"}


class App:
    """A service whose calls of ten tokens are reported as spans and as metrics."""

    def __init__(self, sources: Sources, service: str = "shop", provider: str = "openai") -> None:
        self.books = Books(created=T - 1000)
        self.sources = sources
        self.provider = provider
        self.service = service
        self.ids: list[float] = []
        self.total = 0
        self.since = self.start = T

    def restart(self, at: float) -> None:
        self.total, self.since, self.start = 0, at, at

    def call(self, at: float) -> None:
        self.total += 10
        self.ids.append(at)

    def send_spans(self, now: float) -> Reading:
        spans = [
            span(
                int(at * 100),
                at,
                gen_ai__provider__name=self.provider,
                gen_ai__operation__name="chat",
                gen_ai__usage__input_tokens=10,
            )
            for at in self.ids
        ]
        self.ids = []
        body = traces_body(spans, JSON, self.service)
        return self._add(read_traces(body, JSON, NAMING, Reports(self.sources), now))

    def send_metrics(self, now: float, temporality: int) -> Reading:
        start = self.since if temporality == DELTA else self.start
        one = point(
            self.total,
            start,
            now,
            gen_ai__token__type="input",
            gen_ai__provider__name=self.provider,
        )
        if temporality == DELTA:
            self.total, self.since = 0, now
        body = metrics_body(
            [metric("gen_ai.client.token.usage", [one], temporality)], JSON, self.service
        )
        return self._add(read_metrics(body, JSON, NAMING, Reports(self.sources), now))

    def _add(self, reading: Reading) -> Reading:
        self.books.add(reading.usages)
        return reading


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
@pytest.mark.parametrize("prefer", ["complete", "metrics", "traces"])
def test_spans_before_the_first_metrics_count_and_nothing_is_doubled_after(
    prefer: Any, temporality: int
) -> None:
    app = App(Sources(prefer))
    for minute in range(4):
        for second in (5, 25, 45):
            app.call(T + 60 * minute + second)
            app.send_spans(T + 60 * minute + second + 5)
        app.send_metrics(T + 60 * minute + 60, temporality)
    assert sum(app.books.tokens) == 4 * 3 * 10


def test_the_source_not_counted_is_uncharged_with_the_reason() -> None:
    app = App(Sources("metrics"))
    app.call(T + 30)
    app.send_metrics(T + 60, CUMULATIVE)
    assert app.send_spans(T + 65).uncharged == {"counted_from_metrics": 1}
    assert sum(app.books.tokens) == 10


def test_a_delta_that_spans_told_already_is_uncharged() -> None:
    app = App(Sources("metrics"))
    app.call(T + 30)
    app.send_spans(T + 35)
    assert app.send_metrics(T + 60, DELTA).uncharged == {"counted_from_traces": 1}
    assert sum(app.books.tokens) == 10


def test_a_span_from_before_the_cut_counts_even_when_it_arrives_after() -> None:
    app = App(Sources("metrics"))
    app.call(T + 30)
    app.send_spans(T + 35)
    app.call(T + 58)
    app.send_metrics(T + 60, CUMULATIVE)
    app.send_spans(T + 63)
    assert sum(app.books.tokens) == 20


def test_services_and_providers_have_sources_of_their_own() -> None:
    sources = Sources("metrics")
    apps = [App(sources), App(sources, service="web"), App(sources, provider="x_ai")]
    apps[0].call(T + 1)
    apps[0].send_metrics(T + 60, CUMULATIVE)
    for app in apps[1:]:
        app.call(T + 70)
        app.send_spans(T + 75)
    assert [sum(app.books.tokens) for app in apps] == [10, 10, 10]


def test_when_metrics_fall_silent_spans_count_again_from_where_they_ended() -> None:
    app = App(Sources("metrics"))
    app.call(T + 30)
    app.send_metrics(T + 60, DELTA)
    app.send_spans(T + 61)
    late = T + 60 + SILENCE + 100
    app.call(T + 61)
    app.call(late)
    app.send_spans(late)
    assert sum(app.books.tokens) == 30


def test_an_idle_reporter_of_deltas_comes_back_without_doubling() -> None:
    """Those that export nothing when idle send, after a pause, spans first and metrics later."""
    app = App(Sources("metrics"))
    for start in (T, T + 10 * SILENCE, T + 20 * SILENCE):
        app.call(start + 30)
        app.send_spans(start + 35)
        app.send_metrics(start + 60, DELTA)
        app.call(start + 70)
        app.send_spans(start + 75)
        app.send_metrics(start + 120, DELTA)
    assert sum(app.books.tokens) == 3 * 2 * 10


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
def test_a_restart_of_the_exporter_or_the_service_doubles_and_loses_nothing(
    temporality: int,
) -> None:
    app = App(Sources("metrics"))
    stored: dict[str, bytes] = {}
    for minute in range(6):
        start = T + 60 * minute
        if minute == 3:
            app.restart(start)
        app.call(start + 30)
        app.send_spans(start + 35)
        stored |= app.sources.documents()
        app.sources = Sources("metrics")
        app.sources.follow(stored)
        app.send_metrics(start + 60, temporality)
    assert sum(app.books.tokens) == 6 * 10


def test_a_push_writes_down_only_the_services_in_it() -> None:
    sources = Sources("metrics")
    for number in range(1000):
        sources.decide((f"service {number}",), "traces", T, T)
    stored = sources.documents()
    assert sum(len(msgspec.json.decode(body)) for body in stored.values()) == 1000
    assert sources.documents() == {}
    sources.decide(("service 7",), "metrics", T + 60, T + 60)
    changed = sources.documents()
    assert len(changed) == 1
    assert len(msgspec.json.decode(*changed.values())) < 20
    following = Sources("metrics")
    following.follow(stored | changed)
    assert (
        following.decide(("service 7",), "traces", T + 61, T + 61).reason == "counted_from_metrics"
    )
    assert following.decide(("service 8",), "traces", T + 61, T + 61).reason == ""


def test_documents_of_before_are_taken_up_and_never_older_than_what_is_known() -> None:
    old = {"otlp/sources": msgspec.json.encode({"shop x_ai": {"source": "metrics", "seen": T}})}
    sources = Sources("metrics")
    sources.follow(old)
    assert sources.decide(("shop x_ai",), "traces", T + 1, T + 1).reason == "counted_from_metrics"
    sources.decide(("shop x_ai",), "metrics", T + 60, T + 60)
    sources.follow({**old, **sources.documents()})
    sources.follow({"otlp/sources": msgspec.json.encode({"shop x_ai": {"source": "traces"}})})
    assert sources.decide(("shop x_ai",), "traces", T + 70, T + 70).reason == "counted_from_metrics"


def test_a_retried_request_gets_the_same_answer() -> None:
    sources = Sources("metrics")
    assert sources.decide(("shop",), "traces", T, T) == sources.decide(
        ("shop",), "traces", T, T + 1
    )
    first = sources.decide(("shop",), "metrics", T + 60, T + 60)
    assert first == sources.decide(("shop",), "metrics", T + 60, T + 70)
    assert sources.decide(("shop",), "traces", T, T + 80).reason == ""


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
def test_gemini_clis_own_metrics_count_and_its_general_ones_do_not(temporality: int) -> None:
    """Their providers differ, as only the general ones tell that it was Vertex."""
    books, sources = Books(created=T - 1), Sources("metrics")
    for minute in range(3):
        begin = T if temporality == CUMULATIVE else T + 60 * minute
        value = 10 * (minute + 1) if temporality == CUMULATIVE else 10
        end = T + 60 * minute + 60
        own = metric(
            "gemini_cli.token.usage", [point(value, begin, end, type="input")], temporality
        )
        general = metric(
            "gen_ai.client.token.usage",
            [
                point(
                    value,
                    begin,
                    end,
                    gen_ai__token__type="input",
                    gen_ai__provider__name="gcp.vertex_ai",
                )
            ],
            temporality,
        )
        body = metrics_body([general, own], JSON, "gemini-cli")
        books.add(read_metrics(body, JSON, NAMING, Reports(sources), end).usages)
    assert sum(books.tokens) == 30


@given(
    calls=st.lists(st.floats(0, 600), max_size=30),
    temporality=st.sampled_from([DELTA, CUMULATIVE]),
    prefer=st.sampled_from(["complete", "metrics", "traces"]),
    delay=st.floats(0.1, 50),
)
def test_whatever_the_timing_spans_and_metrics_together_count_each_call_once(
    calls: list[float], temporality: int, prefer: Any, delay: float
) -> None:
    """Spans are sent a delay after calls, so in any minute some come late."""
    app = App(Sources(prefer))
    calls = sorted({round(call, 1) + 0.05 for call in calls})  # never at the moment of an export
    for minute in range(11):
        for at in [call for call in calls if 60 * minute <= call < 60 * minute + 60]:
            app.call(T + at)
        waiting = app.ids
        cut = T + 60 * minute + 60 - delay
        app.ids = [at for at in waiting if at <= cut]
        app.send_spans(T + 60 * minute + 59.9)
        app.ids = [at for at in waiting if at > cut]
        app.send_metrics(T + 60 * minute + 60, temporality)
    app.send_spans(T + 700)
    assert sum(app.books.tokens) == 10 * len(calls)


def test_calls_that_metrics_do_not_tell_of_count_from_spans() -> None:
    """OpenLLMetry has metrics of chats, and spans of chats and of responses."""
    app = App(Sources())
    for minute in range(3):
        start = T + 60 * minute
        app.call(start + 10)
        app.call(start + 20)
        app.total -= 10  # of one of them there is no metric
        app.send_spans(start + 25)
        app.send_metrics(start + 60, DELTA)
    assert sum(app.books.tokens) == 3 * 20


def test_a_model_that_only_metrics_tell_of_counts_from_them() -> None:
    sources, books = Sources(), Books(created=T - 1)
    spans = [span(1, T, gen_ai__usage__input_tokens=10, gen_ai__request__model="a", **OPENAI)]
    books.add(read_traces(traces_body(spans), JSON, NAMING, Reports(sources), T).usages)
    points = [
        point(
            10, T - 60, T + 1, gen_ai__token__type="input", gen_ai__request__model=model, **OPENAI
        )
        for model in ("a", "b")
    ]
    body = metrics_body([metric("gen_ai.client.token.usage", points, DELTA)])
    books.add(read_metrics(body, JSON, NAMING, Reports(sources), T + 1).usages)
    assert sum(books.tokens) == 20


@pytest.mark.parametrize(
    ("asked", "answered", "told"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("our-deployment", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("our-deployment", "gpt-4o", "our-deployment"),
        ("gpt-4o", "", "gpt-4o-2024-11-20"),
        ("gpt-4o", "", ""),
    ],
)
@pytest.mark.parametrize("metrics_first", [False, True])
def test_a_model_by_its_two_names_has_one_source(
    asked: str, answered: str, told: str, metrics_first: bool
) -> None:
    """Spans tell both, many metrics only what answered."""
    sources, books = Sources(), Books(created=T - 1)
    models = {"gen_ai.request.model": asked, "gen_ai.response.model": answered}
    one = span(1, T, gen_ai__usage__input_tokens=10, **OPENAI, **models)
    value = point(
        10, T - 60, T + 1, gen_ai__token__type="input", gen_ai__response__model=told, **OPENAI
    )
    metrics = metrics_body([metric("gen_ai.client.token.usage", [value], DELTA)])
    readers = [
        lambda: read_traces(traces_body([one]), JSON, NAMING, Reports(sources), T + 1),
        lambda: read_metrics(metrics, JSON, NAMING, Reports(sources), T + 1),
    ]
    for reader in reversed(readers) if metrics_first else readers:
        books.add(reader().usages)
    assert sum(books.tokens) == 10


def test_spans_that_are_a_sample_yield_to_metrics() -> None:
    app, every = App(Sources()), 10
    for minute in range(30):
        for number in range(every):
            app.call(T + 60 * minute + number)
        app.ids = app.ids[:1]
        app.send_spans(T + 60 * minute + 30)
        app.send_metrics(T + 60 * minute + 60, CUMULATIVE)
    whole = 30 * every * 10
    learnt = 4 * every * 10  # within four minutes it is known
    assert whole - learnt <= sum(app.books.tokens) <= whole


def test_what_an_earlier_version_knew_of_all_models_goes_on_for_each() -> None:
    cut = {"source": "metrics", "before": "traces", "since": T, "until": T + 60, "seen": T + 60}
    stored = {"otlp/sources/00": msgspec.json.encode({"shop openai": cut})}
    sources = Sources()
    sources.follow(stored)
    decision = sources.decide(keys("shop", "openai", "gpt-4o"), "metrics", T + 120, T + 120)
    assert (decision.reason, decision.since) == ("", T)


def test_what_two_replicas_know_of_services_in_one_document_is_merged() -> None:
    stored: dict[str, bytes] = {}
    replicas = Sources("metrics"), Sources("metrics")
    for at, (sources, source) in enumerate(zip(replicas, ("traces", "metrics"), strict=True)):
        for number in range(1000):
            if number % 2 == at or number == 7:
                sources.decide((f"service {number}",), source, T + at, T + at)
    for sources in replicas:
        for name, body in sources.documents().items():
            stored[name] = merge(body, stored[name]) if name in stored else body
    following = Sources("metrics")
    following.follow(stored)
    assert [following.counts((f"service {number}",)) for number in (6, 7, 8, 9)] == [
        "traces",
        "metrics",
        "traces",
        "metrics",
    ]


def test_one_document_does_not_grow_for_ever_nor_fail_for_what_another_version_wrote() -> None:
    def known(first: int) -> bytes:
        seen = range(first, first + MAX_TOGETHER)
        return msgspec.json.encode({str(n): {"source": "traces", "seen": T + n} for n in seen})

    assert merge(known(0), known(9)) == merge(known(9), known(0)) == merge(known(9), known(9))
    assert merge(known(0), b'{"x":{"source":"smoke signals"}}') == known(0)


def test_calls_that_a_cache_answered_do_not_make_spans_a_sample() -> None:
    """LiteLLM's metrics have them, and its spans say what they are."""
    reports, books = Reports(Sources()), Books(created=T - 1)
    usage = {"gen_ai__usage__input_tokens": 10, "gen_ai__request__model": "m", **OPENAI}
    for minute in range(20):
        start, end = T + 60 * minute, T + 60 * minute + 60
        spans = [
            span(10 * minute + at, start + at, litellm__cache_hit=at > 0, **usage)
            for at in range(5)
        ]
        books.add(read_traces(traces_body(spans), JSON, NAMING, reports, start + 30).usages)
        value = point(
            50, start, end, gen_ai__token__type="input", gen_ai__request__model="m", **OPENAI
        )
        body = metrics_body([metric("gen_ai.client.token.usage", [value], DELTA)])
        books.add(read_metrics(body, JSON, NAMING, reports, end).usages)
    assert sum(books.tokens) == 20 * 10
