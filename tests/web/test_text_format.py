"""Metrics as text, held against the Prometheus project's own writer."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exporter.web.exposition import exposition

ACCEPTS = ["text/plain", "application/openmetrics-text;version=1.0.0"]

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text('a\\"\n,{}= ')
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}[a-z]", fullmatch=True).filter(
    lambda name: not name.endswith(("total", "created", "info", "gsum", "gcount"))
)


@st.composite
def families(draw: st.DrawFn) -> Metric:
    kind = draw(st.sampled_from([CounterMetricFamily, GaugeMetricFamily]))
    labels = draw(st.lists(names, max_size=3, unique=True))
    family = kind(draw(names), draw(texts), labels=labels)
    for _ in range(draw(st.integers(0, 3))):
        value = draw(st.floats() | st.integers(0, 10**15).map(float))
        family.add_metric([draw(texts) for _ in labels], value)
    return family


class Given(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def official(collector: Collector, accept: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    encode, _ = choose_encoder(accept)
    text: bytes = encode(registry)
    return text


@pytest.mark.parametrize("accept", ACCEPTS)
@given(metrics=st.lists(families(), max_size=3))
def test_any_gauges_and_counters_read_as_the_official_library_writes_them(
    accept: str, metrics: list[Metric]
) -> None:
    ours = exposition(metrics, openmetrics="openmetrics" in accept)
    assert ours == official(Given(metrics), accept)


@pytest.mark.parametrize("accept", ACCEPTS)
def test_what_the_library_says_of_the_process_is_of_these_kinds(accept: str) -> None:
    process = Given(list(ProcessCollector(registry=None).collect()))
    ours = exposition(process.collect(), openmetrics="openmetrics" in accept)
    assert ours == official(process, accept)
