"""What was counted since the store began, as families of metrics."""

from collections.abc import Iterable, Mapping

from exporter.core.budget import NANO
from exporter.core.series import Series
from exporter.core.slots import COST, REQUESTS, Counts, add
from exporter.core.usage import KINDS
from exporter.web.exposition import Family, counter

UNKNOWN = "unknown"
"""Stands for whoever did not say who it was, at a provider where others did."""


def usage(totals: Mapping[Series, Counts]) -> Iterable[Family]:
    """Counters by model, and by consumer of providers that know any."""
    by_model: dict[tuple[str, str], Counts] = {}
    by_consumer: dict[tuple[str, str], Counts] = {}
    named = {series.provider for series in totals if series.consumer}
    for series, counts in totals.items():
        add(by_model, (series.provider, series.model), counts)
        if series.provider in named:
            add(by_consumer, (series.provider, series.consumer or UNKNOWN), counts)
    return (*_by_model(by_model), *_by_consumer(by_consumer))


def _by_model(counted: Mapping[tuple[str, str], Counts]) -> Iterable[Family]:
    tokens = counter("tokens", "Tokens counted.", "provider", "model", "kind")
    requests = counter("requests", "Requests counted.", "provider", "model")
    cost = counter("cost_usd", "Cost, as reported or by price.", "provider", "model")
    for labels, counts in counted.items():
        for kind, count in zip(KINDS, counts, strict=False):
            if count:
                tokens.samples[*labels, kind] = count
        requests.samples[labels] = counts[REQUESTS]
        if counts[COST]:
            cost.samples[labels] = counts[COST] / NANO
    return tokens, requests, cost


def _by_consumer(counted: Mapping[tuple[str, str], Counts]) -> Iterable[Family]:
    tokens = counter("consumer_tokens", "Tokens counted, by who asked.", "provider", "consumer")
    requests = counter(
        "consumer_requests", "Requests counted, by who asked.", "provider", "consumer"
    )
    cost = counter(
        "consumer_cost_usd", "Cost, as reported or by price, by who asked.", "provider", "consumer"
    )
    for labels, counts in counted.items():
        tokens.samples[labels] = sum(counts[: len(KINDS)])
        requests.samples[labels] = counts[REQUESTS]
        if counts[COST]:
            cost.samples[labels] = counts[COST] / NANO
    return tokens, requests, cost
