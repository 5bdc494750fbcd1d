"""Prometheus' remote write: counters count once, whatever is sent how often by whom."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.usage import Tokens, Usage
from exporter.intake.naming import Naming
from exporter.intake.otlp_sources import Sources
from exporter.intake.reading import MalformedBody, Reading
from exporter.intake.remote_write import read_write
from exporter.intake.remote_write_messages import RequestV1, RequestV2

NOW = 1_790_000_000.0
NAMING = Naming({}, (), ("openai", "anthropic"))
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

Sent = tuple[dict[str, str], list[tuple[float, float]]]


def first_version(*sent: Sent) -> bytes:
    request = RequestV1()
    for labels, samples in sent:
        series = request.timeseries.add()
        for name, value in sorted(labels.items()):
            series.labels.add(name=name, value=value)
        for at, value in samples:
            series.samples.add(timestamp=round(at * 1000), value=value)
    encoded: bytes = request.SerializeToString()
    return encoded


def second_version(*sent: Sent, created: float = 0.0) -> bytes:
    request = RequestV2()
    symbols = [""]
    for labels, samples in sent:
        series = request.timeseries.add(created_timestamp=round(created * 1000))
        for text in (text for pair in sorted(labels.items()) for text in pair):
            if text not in symbols:
                symbols.append(text)
            series.labels_refs.append(symbols.index(text))
        for at, value in samples:
            series.samples.add(timestamp=round(at * 1000), value=value)
    request.symbols.extend(symbols)
    encoded: bytes = request.SerializeToString()
    return encoded


def read(body: bytes, sources: Sources | None = None) -> Reading:
    return read_write(body, NAMING, sources or Sources(), NOW, 10_000)


def series(name: str, value: float, **labels: str) -> Sent:
    return {"__name__": name, **labels}, [(NOW, value)]


def usages(*sent: Sent) -> list[Usage]:
    reading = read(first_version(*sent))
    assert not reading.rejected
    return reading.usages


VLLM = {"model_name": "llama", "instance": "gpu-1", "job": "vllm"}
LITELLM = {"model": "gpt-5", "api_provider": "openai", "team": "t", "api_key_alias": "k"}
SEMCONV = {"gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-5", "service_name": "s"}

KNOWN = [
    ([("vllm:prompt_tokens_total", 10, VLLM)], "vllm", "llama", Tokens(input=10), 0),
    ([("vllm:generation_tokens_total", 4, VLLM)], "vllm", "llama", Tokens(output=4), 0),
    ([("vllm:request_success_total", 3, VLLM)], "vllm", "llama", Tokens(), 3),
    (
        [
            ("litellm_input_tokens_metric_total", 100, LITELLM),
            ("litellm_input_cached_tokens_metric_total", 60, LITELLM),
            ("litellm_input_cache_creation_tokens_metric_total", 10, LITELLM),
        ],
        "openai",
        "gpt-5",
        Tokens(input=30, cache_read=60, cache_write=10),
        0,
    ),
    ([("litellm_output_tokens_metric", 7, LITELLM)], "openai", "gpt-5", Tokens(output=7), 0),
    ([("litellm_requests_metric_total", 7, LITELLM)], "openai", "gpt-5", Tokens(), 7),
    (
        [("gen_ai_client_token_usage_sum", 9, SEMCONV | {"gen_ai_token_type": "input"})],
        "openai",
        "gpt-5",
        Tokens(input=9),
        0,
    ),
    (
        [("gen_ai_client_token_usage_tokens_count", 2, SEMCONV | {"gen_ai_token_type": "input"})],
        "openai",
        "gpt-5",
        Tokens(),
        2,
    ),
    (
        [
            ("gen_ai_client_inference_usage_input_tokens_total", 50, SEMCONV),
            ("gen_ai_client_inference_usage_cache_read_input_tokens_total", 20, SEMCONV),
        ],
        "openai",
        "gpt-5",
        Tokens(input=30, cache_read=20),
        0,
    ),
    (
        [("claude_code_token_usage_tokens_total", 8, {"type": "cacheRead", "model": "opus"})],
        "anthropic",
        "opus",
        Tokens(cache_read=8),
        0,
    ),
]


class TestSeries:
    @pytest.mark.parametrize(("sent", "provider", "model", "tokens", "requests"), KNOWN)
    def test_of_the_field_count_for_their_provider_model_and_kind(
        self, sent: Any, provider: str, model: str, tokens: Tokens, requests: int
    ) -> None:
        (usage,) = usages(*(series(name, value, **labels) for name, value, labels in sent))
        assert (usage.provider, usage.model, usage.tokens) == (provider, model, tokens)
        assert (usage.requests, usage.timestamp, usage.sampled) == (requests, NOW, True)

    def test_cost_is_kept_in_whole_nano_dollars(self) -> None:
        (usage,) = usages(series("litellm_spend_metric_total", 0.1 + 0.2, **LITELLM))
        assert usage.cost_nano_usd == 300_000_000

    def test_of_other_kinds_are_passed_over_visibly(self) -> None:
        sent = (series("up", 1), series("litellm_total_tokens_metric_total", 5, **LITELLM))
        reading = read(first_version(*sent))
        assert (reading.usages, reading.uncharged, reading.items) == ([], {"not_usage": 2}, 2)

    def test_of_a_total_and_of_an_unknown_type_are_passed_over_visibly(self) -> None:
        name = "gen_ai_client_token_usage_sum"
        kinds = [series(name, 5, gen_ai_token_type=one, **SEMCONV) for one in ("total", "dark")]
        assert read(first_version(*kinds)).uncharged == {"total": 1, "unknown_token_type": 1}

    def test_of_a_part_without_its_whole_count_nothing(self) -> None:
        part = series("litellm_input_cached_tokens_metric_total", 5, **LITELLM)
        reading = read(first_version(part))
        assert (reading.usages, reading.uncharged) == ([], {"part_without_whole": 1})

    def test_of_a_better_source_of_the_same_service_win(self) -> None:
        sources = Sources()
        newer = series("gen_ai_client_inference_usage_input_tokens_total", 5, **SEMCONV)
        older = series("gen_ai_client_token_usage_sum", 5, gen_ai_token_type="input", **SEMCONV)
        assert len(read(first_version(newer), sources).usages) == 1
        reading = read(first_version(older), sources)
        assert reading.uncharged == {"counted_from_inference_metrics": 1}

    def test_that_differ_in_any_label_are_counters_of_their_own(self) -> None:
        one = series("vllm:prompt_tokens_total", 10, **VLLM)
        other = series("vllm:prompt_tokens_total", 10, **{**VLLM, "instance": "gpu-2"})
        assert len({usage.stream for usage in usages(one, other)}) == 2

    @pytest.mark.parametrize("label", ["__replica__", "prometheus_replica", "replica"])
    def test_of_a_pair_of_prometheus_servers_are_the_same_counter(self, label: str) -> None:
        one, other = (
            usages(series("vllm:prompt_tokens_total", 10, **VLLM, **{label: name}))
            for name in ("a", "b")
        )
        assert one == other


class TestSamples:
    def test_that_mark_staleness_are_no_values(self) -> None:
        labels = {"__name__": "vllm:prompt_tokens_total", **VLLM}
        reading = read(first_version((labels, [(NOW, 10), (NOW + 15, STALE)])))
        assert [usage.tokens.input for usage in reading.usages] == [10]
        assert (reading.rejected, reading.items) == ([], 2)

    def test_of_one_series_are_taken_in_the_order_of_their_times(self) -> None:
        labels = {"__name__": "vllm:prompt_tokens_total", **VLLM}
        found = read(first_version((labels, [(NOW + 15, 20), (NOW, 10)]))).usages
        assert [(usage.started, usage.tokens.input) for usage in found] == [
            (NOW, 10),
            (NOW + 15, 20),
        ]

    @pytest.mark.parametrize("value", [-1.0, 1.5, float("inf"), 1e300])
    def test_that_no_counter_has_are_rejected(self, value: float) -> None:
        reading = read(first_version(series("vllm:prompt_tokens_total", value, **VLLM)))
        (rejection,) = reading.rejected
        assert rejection.error.startswith("vllm:prompt_tokens_total: expected a whole number")

    def test_of_nobody_are_passed_over_visibly(self) -> None:
        reading = read(first_version(series("gen_ai_client_inference_usage_input_tokens", 1)))
        assert (reading.usages, reading.uncharged) == ([], {"unknown_provider": 1})


class TestVersions:
    def test_say_the_same(self) -> None:
        sent = [series(name, value, **labels) for case in KNOWN for name, value, labels in case[0]]
        assert read(first_version(*sent)).usages == read(second_version(*sent)).usages

    def test_a_counter_whose_beginning_is_known_counts_from_there(self) -> None:
        sent = series("vllm:prompt_tokens_total", 10, **VLLM)
        (usage,) = read(second_version(sent, created=NOW - 60)).usages
        assert (usage.started, usage.sampled) == (NOW - 60, False)

    @pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", b"{}"])
    def test_a_body_of_another_kind_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedBody, match="expected a remote write request"):
            read(body)

    def test_references_to_nothing_are_malformed(self) -> None:
        request = RequestV2(symbols=["", "a"])
        request.timeseries.add(labels_refs=[1, 2])
        with pytest.raises(MalformedBody, match="labels_refs"):
            read(request.SerializeToString())

    def test_more_samples_than_allowed_are_malformed(self) -> None:
        body = first_version(({"__name__": "up"}, [(NOW, 1.0)] * 5))
        with pytest.raises(MalformedBody, match="at most 4 items"):
            read_write(body, NAMING, Sources(), NOW, 4)

    @given(st.binary())
    def test_anything_is_read_or_called_malformed(self, body: bytes) -> None:
        try:
            assert isinstance(read(body), Reading)
        except MalformedBody as error:
            assert str(error)  # noqa: PT017 - either way is fine
