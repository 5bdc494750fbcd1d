"""Metrics as text, held against the Prometheus project's own writer."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exporter.core.histogram import Histogram
from exporter.web.exposition import Exposition, Family, histogram

ACCEPTS = ["text/plain", "application/openmetrics-text;version=1.0.0"]
OFFICIAL = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text('a\\"\n,{}=% ')
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}[a-z]", fullmatch=True).filter(
    lambda name: not name.endswith(("total", "created", "info", "gsum", "gcount"))
)
# A zero keeps the sign with which it was first written.
numbers = (st.floats() | st.integers(0, 10**15).map(float)).map(lambda value: value or 0.0)


@st.composite
def families(draw: st.DrawFn) -> Family:
    labels = draw(st.lists(names, max_size=3, unique=True))
    family = Family(draw(st.sampled_from(sorted(OFFICIAL))), draw(names), draw(texts), *labels)
    values = st.tuples(*[texts for _ in labels])
    family.samples = draw(st.dictionaries(values, numbers, max_size=3))
    return family


@st.composite
def histories(draw: st.DrawFn) -> list[list[Family]]:
    """The same families a few times, with some of their series and numbers changed."""
    first = draw(st.lists(families(), max_size=3))
    scrapes = [first]
    for _ in range(draw(st.integers(0, 3))):
        later = []
        for one in first:
            family = Family(one.kind, one.name, one.text, *one.labels)
            for labels, value in one.samples.items():
                if draw(st.integers(0, 9)):
                    family.samples[labels] = draw(st.just(value) | numbers)
            later.append(family)
        scrapes.append(later)
    return scrapes


class Given(Collector):
    def __init__(self, given: list[Family]) -> None:
        self._given = given

    def collect(self) -> Iterator[Metric]:
        for one in self._given:
            metric = OFFICIAL[one.kind](one.name, one.text, labels=one.labels)
            for labels, value in one.samples.items():
                metric.add_metric(labels, value)
            yield metric


def official(given: list[Family], accept: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(Given(given))
    encode, _ = choose_encoder(accept)
    text: bytes = encode(registry)
    return text


@given(history=histories())
def test_every_scrape_of_changing_metrics_reads_as_the_official_library_writes_it(
    history: list[list[Family]],
) -> None:
    ours = Exposition()
    for scrape in history:
        for accept in ACCEPTS:
            written = ours.write(scrape, openmetrics="openmetrics" in accept)
            assert written == official(scrape, accept)


@pytest.mark.parametrize("accept", ACCEPTS)
def test_metrics_of_one_name_that_differ_otherwise_are_not_mixed_up(accept: str) -> None:
    ours = Exposition()
    for kind, label in (("gauge", "a"), ("gauge", "b"), ("counter", "b")):
        family = Family(kind, "name", "Text.", label)
        family.samples["x",] = 1.0
        written = ours.write([family], openmetrics="openmetrics" in accept)
        assert written == official([family], accept)


@given(
    labels=st.lists(names.filter(lambda name: name != "le"), max_size=2, unique=True),
    observed=st.dictionaries(texts, st.lists(st.floats(0, 20)), max_size=3),
)
def test_a_histogram_reads_as_the_official_library_writes_it(
    labels: list[str], observed: dict[str, list[float]]
) -> None:
    metric = HistogramMetricFamily("llm_quota_seconds", "Text.", labels=labels)
    family = histogram("seconds", "Text.", *labels)
    for value, sizes in list(observed.items())[: None if labels else 1]:
        counted = Histogram((0.1, 1.0, 10.0))
        for size in sizes:
            counted.observe(size)
        values = (value,) * len(labels)
        family.add(values, counted.read())
        buckets = [(str(bound), sum(size <= bound for size in sizes)) for bound in (0.1, 1.0, 10.0)]
        metric.add_metric(values, [*buckets, ("+Inf", len(sizes))], counted.total)
    registry = CollectorRegistry()
    registry.register(Fixed(metric))
    for accept in ACCEPTS:
        encode, _ = choose_encoder(accept)
        assert Exposition().write([family], openmetrics="openmetrics" in accept) == encode(registry)


class Fixed(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric
