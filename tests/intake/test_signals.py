"""What providers' responses say about the quota behind them."""

import contextlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.signal import Limit, Refusal, Signal, Verdict
from exporter.intake.reading import MalformedBody
from exporter.intake.signals import read, read_response
from exporter.intake.signals.values import duration, moment, number

HOUR = 3600.0
DAY = 24 * HOUR

RECORDED = [
    pytest.param(case, id=f"{file.stem}: {case['says']}")
    for file in sorted((Path(__file__).parent / "recorded_responses").glob("*.json"))
    for case in json.loads(file.read_text())
]


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NOW = unix("2026-08-14T10:00:00Z")


def signal_of(case: dict[str, Any]) -> Signal:
    body = None if case["body"] is None else json.dumps(case["body"]).encode()
    return read_response(case["provider"], case["status"], case["headers"], body, unix(case["at"]))


def refusal(headers: dict[str, Any], body: Any = None, at: float = NOW) -> Signal:
    return read_response("p", 429, headers, body, at)


class TestRecordedResponses:
    @pytest.mark.parametrize("case", RECORDED)
    def test_mean_what_they_say(self, case: dict[str, Any]) -> None:
        signal = signal_of(case)
        assert signal.verdict == case["verdict"]
        retry_at = signal.retry_at and datetime.fromtimestamp(round(signal.retry_at, 3), UTC)
        assert retry_at == (
            datetime.fromisoformat(case["retry_at"]) if "retry_at" in case else None
        )

    @pytest.mark.parametrize("case", [case for case in RECORDED if "limits" in case.values[0]])
    def test_report_their_limits(self, case: dict[str, Any]) -> None:
        limits = {limit.name: limit for limit in signal_of(case).limits}
        assert limits.keys() >= case["limits"].keys()
        assert limits or not case["limits"]
        for name, expected in case["limits"].items():
            for field, value in expected.items():
                seconds = unix(value) if isinstance(value, str) else value
                assert getattr(limits[name], field) == pytest.approx(seconds, abs=1e-3, rel=0)

    @pytest.mark.parametrize("case", RECORDED)
    def test_are_recognised_in_any_case_and_form(self, case: dict[str, Any]) -> None:
        headers = {
            name.upper(): value if isinstance(value, list) else [value]
            for name, value in case["headers"].items()
        }
        signal = signal_of(case)
        forms = [case["body"], json.dumps(case["body"]), json.dumps(case["body"]).encode()]
        for body in forms:
            if not isinstance(body, list):
                again = read_response(
                    case["provider"], case["status"], headers, body, unix(case["at"])
                )
                assert again == signal

    @pytest.mark.parametrize("case", RECORDED)
    def test_mean_the_same_whatever_the_provider_is_called(self, case: dict[str, Any]) -> None:
        named = signal_of(case | {"provider": "acct-7"})
        signal = signal_of(case)
        assert (named.verdict, named.retry_at) == (signal.verdict, signal.retry_at)

    @pytest.mark.parametrize("case", RECORDED)
    def test_can_be_posted(self, case: dict[str, Any]) -> None:
        item = {
            "provider": case["provider"],
            "status": case["status"],
            "headers": case["headers"],
            "body": case["body"],
            "timestamp": case["at"],
        }
        assert read(json.dumps(item).encode(), 0.0).signals == [signal_of(case)]
        item["body"] = json.dumps(case["body"])
        assert read(json.dumps(item).encode(), 0.0).signals == [signal_of(case)]


class TestNonsense:
    @pytest.mark.parametrize("said", ["0", "-5", "nan", "inf", "soon", "", "1e400", "0x1F", "١٢"])
    def test_without_a_usable_wait_a_throttle_lasts_a_minute(self, said: str) -> None:
        signal = refusal({"retry-after": said})
        assert (signal.verdict, signal.retry_at) == (Verdict.THROTTLED, NOW + 60)

    def test_a_wait_that_is_over_already_is_not_believed(self) -> None:
        signal = refusal({"retry-after": "Fri, 14 Aug 2026 09:59:00 GMT"})
        assert signal.retry_at == NOW + 60

    @pytest.mark.parametrize(
        "reset",
        ["9999-12-31T23:59:59Z", "253402300799", "253402300799000", "99999999999999999999"],
    )
    def test_a_quota_lasts_no_longer_than_35_days(self, reset: str) -> None:
        headers = {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-7d-status": "rejected",
            "anthropic-ratelimit-unified-7d-utilization": "1",
            "anthropic-ratelimit-unified-7d-reset": reset,
        }
        signal = refusal(headers)
        assert (signal.verdict, signal.retry_at) == (Verdict.EXHAUSTED, NOW + 35 * DAY)
        assert [limit.reset_at for limit in signal.limits] == [None]

    def test_a_quota_whose_reset_is_over_already_is_asked_again_after_an_hour(self) -> None:
        headers = {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": "1700000000",
        }
        signal = refusal(headers)
        assert (signal.verdict, signal.retry_at) == (Verdict.EXHAUSTED, NOW + HOUR)

    def test_a_limit_per_minute_throttles_for_an_hour_at_most(self) -> None:
        headers = {"x-ratelimit-remaining-tokens-minute": "0", "retry-after": "999999999"}
        signal = refusal(headers)
        assert (signal.verdict, signal.retry_at) == (Verdict.THROTTLED, NOW + HOUR)

    def test_milliseconds_and_seconds_since_1970_are_told_apart(self) -> None:
        for reset in ("1786708800", "1786708800000", 1786708800, 1786708800.0):
            headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
            assert refusal(headers).retry_at == 1786708800

    def test_midnight_pacific_keeps_daylight_saving(self) -> None:
        body = {"error": {"status": "RESOURCE_EXHAUSTED", "message": "requests per day"}}
        for day, midnight in [
            ("2026-11-01T06:30:00Z", "2026-11-01T07:00:00Z"),  # the last minutes of October
            ("2026-11-01T08:30:00Z", "2026-11-02T08:00:00Z"),  # a day of 25 hours
            ("2026-03-08T12:00:00Z", "2026-03-09T07:00:00Z"),  # a day of 23 hours
        ]:
            assert refusal({}, body, unix(day)).retry_at == unix(midnight)

    def test_a_flood_of_limits_is_cut(self) -> None:
        headers = {f"x-ratelimit-remaining-{n}": "1" for n in range(1000)}
        assert len(refusal(headers).limits) == 32

    def test_what_a_body_says_stays_there(self) -> None:
        secret = "Hunter2 asked for 12 requests per day"
        body = {"error": {"message": secret, "code": secret, "type": secret}, "message": secret}
        signal = refusal({"x-note": secret, "retry-after": secret}, body)
        assert signal.verdict is Verdict.EXHAUSTED
        assert "unter" not in repr(signal)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("", 429, {}, None, NOW), "provider: expected a name, got ''"),
            (("p", 42, {}, None, NOW), "status: expected an HTTP status from 100 to 599, got 42"),
            (
                ("p", 429, {}, None, math.nan),
                "timestamp: expected Unix seconds from 1970 to 9999, got nan",
            ),
        ],
    )
    def test_bad_arguments_are_refused(self, arguments: Any, message: str) -> None:
        with pytest.raises(ValueError, match="expected") as error:
            read_response(*arguments)
        assert str(error.value) == message


names = st.sampled_from(
    [
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-remaining-tokens-month",
        "x-ratelimit-remaining-requests-1h",
        "x-ratelimit-reset-requests-1h",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-unified-status",
        "anthropic-ratelimit-unified-reset",
        "anthropic-ratelimit-unified-7d-status",
        "anthropic-ratelimit-unified-7d-reset",
        "anthropic-ratelimit-unified-7d-utilization",
        "x-codex-primary-used-percent",
        "x-codex-primary-window-minutes",
        "x-codex-primary-reset-at",
        "anthropic-fast-input-tokens-remaining",
        "anthropic-ratelimit-unified-7d_opus-status",
        "anthropic-ratelimit-unified-representative-claim",
        "x-quota-snapshot-chat",
        "openai-project",
        "ratelimit",
        "ratelimit-policy",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
values = (
    st.sampled_from(
        [
            "rejected",
            "seven_day_opus",
            "ent=9&rem=1e9&rst=9999-12-31",
            "1e999",
            "6m0s",
            "9999-12-31T23:59:59+14:00",
            '"a";r=0;t=9',
        ]
    )
    | st.floats()
    | st.integers()
    | st.text(alphabet="0123456789.:-;,=TZmsh \"'er")
    | json_values
)
fields = st.sampled_from(
    [
        "error",
        "message",
        "code",
        "type",
        "detail",
        "details",
        "metadata",
        "headers",
        "status",
        "resets_at",
        "resets_in_seconds",
        "violations",
        "quotaId",
        "quotaValue",
        "retryDelay",
        "rate_limits",
        "primary",
        "used_percent",
        "window_minutes",
        "limit_reached",
        "status_code",
        "quotaDimensions",
        "model",
        "errors",
    ]
)
bodies = st.recursive(
    json_values
    | st.sampled_from(
        [
            "RESOURCE_EXHAUSTED",
            "requests per day",
            "insufficient_quota",
            "将在 2026-13-45 99:00 重置",
            "resets at 2026-02-30T25:61:00Z",
            "Rate limit reached for model `x` in organization",
            "1308",
            True,
            300,
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=6),
    max_leaves=20,
)


class TestAnything:
    @given(
        st.sampled_from([200, 302, 400, 402, 403, 429, 500]),
        st.dictionaries(names, values, max_size=8),
        st.binary() | st.text() | st.none() | bodies.map(json.dumps) | bodies,
        st.floats(0, 4e9),
    )
    def test_gives_a_verdict_with_a_sane_end(self, status, headers, body, at) -> None:
        body = body if isinstance(body, bytes | str | dict | None) else json.dumps(body)
        signal = read_response("p", status, headers, body, at)
        waits = signal.verdict in (Verdict.THROTTLED, Verdict.EXHAUSTED)
        assert waits == (signal.retry_at is not None)
        assert not waits or signal.refusal is not None
        assert (signal.model, signal.consumer) == ("", "") or signal.refusal is not None
        if signal.retry_at is not None:
            assert at < signal.retry_at <= at + 35 * DAY
        for limit in signal.limits:
            amounts = (limit.limit, limit.remaining, limit.utilization, limit.reset_at)
            assert all(amount is None or math.isfinite(amount) for amount in amounts)
            assert limit.reset_at is None or at <= limit.reset_at <= at + 35 * DAY
        assert len(signal.detail) <= 200

    @given(st.binary() | bodies.map(json.dumps).map(str.encode))
    def test_posted_is_read_or_called_malformed(self, body: bytes) -> None:
        with contextlib.suppress(MalformedBody):
            assert all(rejection.error for rejection in read(body, NOW).rejected)

    @given(
        st.fixed_dictionaries(
            {"provider": values, "status": values},
            optional={"headers": values, "body": values, "timestamp": values},
        )
    )
    def test_posted_as_an_item_is_read_or_rejected(self, item: dict[str, Any]) -> None:
        reading = read(json.dumps(item).encode(), NOW) if _finite(item) else None
        assert reading is None or len(reading.signals) + len(reading.rejected) == 1


def _finite(item: Any) -> bool:
    try:
        json.dumps(item, allow_nan=False)
    except ValueError:
        return False
    return True


class TestWaits:
    def test_a_bare_wait_of_minutes_throttles(self) -> None:
        signal = refusal({"retry-after": "1500"})
        assert (signal.verdict, signal.refusal) == (Verdict.THROTTLED, Refusal.RATE)
        assert signal.retry_at == NOW + 1500

    def test_a_bare_wait_is_a_quota_from_the_length_that_is_configured(self) -> None:
        wait = {"retry-after": "1500"}
        signal = read_response("p", 429, wait, None, NOW, exhausted_from=900)
        assert (signal.verdict, signal.refusal) == (Verdict.EXHAUSTED, Refusal.QUOTA)
        assert signal.retry_at == NOW + 1500

    def test_a_rate_limit_is_none_however_long_its_wait(self) -> None:
        headers = {"retry-after": "1500", "x-ratelimit-remaining-tokens-minute": "0"}
        signal = read_response("p", 429, headers, None, NOW, exhausted_from=900)
        assert (signal.verdict, signal.refusal) == (Verdict.THROTTLED, Refusal.RATE)


class TestReportedWindows:
    def test_of_a_subscription_have_a_length_and_their_models(self) -> None:
        headers = {
            "anthropic-ratelimit-unified-status": "allowed",
            "anthropic-ratelimit-unified-5h-utilization": "0.25",
            "anthropic-ratelimit-unified-5h-reset": "1786709599",
            "anthropic-ratelimit-unified-7d_opus-utilization": "0.75",
            "anthropic-ratelimit-unified-7d_opus-status": "allowed_warning",
        }
        limits = read_response("claude", 200, headers, None, NOW).limits
        assert limits == (
            Limit("5h", None, None, 0.25, 1786709599.0, "share", "", 5 * HOUR),
            Limit("7d_opus", None, None, 0.75, None, "share", "*opus*", 7 * DAY),
        )

    def test_of_copilot_are_the_month_and_not_what_is_unlimited(self) -> None:
        headers = {
            "x-quota-snapshot-chat": "ent=-1&ov=0.0&ovPerm=false&rem=100.0"
            "&rst=2026-09-01T00%3A00%3A00Z&totRem=-1",
            "x-quota-snapshot-premium_interactions": "ent=300&ov=0.0&ovPerm=true&rem=97.5"
            "&rst=2026-09-01T00%3A00%3A00Z&totRem=292.5",
        }
        (limit,) = read_response("copilot", 200, headers, None, NOW).limits
        assert limit == Limit(
            "premium_interactions",
            300.0,
            292.5,
            pytest.approx(0.025),
            unix("2026-09-01T00:00:00Z"),
            "share",
            "",
            31 * DAY,
        )

    def test_of_codex_come_as_events_too(self) -> None:
        event = {
            "type": "codex.rate_limits",
            "rate_limits": {
                "allowed": True,
                "limit_reached": False,
                "primary": {"used_percent": 4, "window_minutes": 300, "reset_at": 1786709599},
                "secondary": {
                    "used_percent": 16,
                    "window_minutes": 10080,
                    "reset_after_seconds": 3600,
                },
            },
        }
        signal = read_response("codex", 101, {}, json.dumps(event), NOW)
        assert signal.verdict is Verdict.UNKNOWN
        assert signal.limits == (
            Limit("5h", None, None, 0.04, 1786709599.0, "share", "", 5 * HOUR),
            Limit("7d", None, None, 0.16, NOW + HOUR, "share", "", 7 * DAY),
        )

    def test_of_fast_mode_stand_beside_the_others(self) -> None:
        headers = {
            "anthropic-ratelimit-input-tokens-limit": "50",
            "anthropic-ratelimit-input-tokens-remaining": "40",
            "anthropic-fast-input-tokens-limit": "100",
            "anthropic-fast-input-tokens-remaining": "99",
        }
        limits = read_response("a", 200, headers, None, NOW, "claude-opus-5").limits
        assert limits == (
            Limit("input_tokens", 50.0, 40.0, None, None, "tokens", "claude-opus-5", 60.0),
            Limit("fast_input_tokens", 100.0, 99.0, None, None, "tokens", "claude-opus-5", 60.0),
        )

    def test_of_a_day_or_a_month_say_what_they_count(self) -> None:
        headers = {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-remaining-requests-day": "14000",
            "x-ratelimit-limit-tokens-month": "1000",
            "x-ratelimit-remaining-tokens-month": "900",
        }
        limits = read_response("mistral", 200, headers, None, NOW).limits
        assert [(one.name, one.unit, one.window) for one in limits] == [
            ("requests_day", "requests", DAY),
            ("tokens_month", "tokens", 30 * DAY),
        ]


class TestPosted:
    def test_a_project_that_is_spent_stops_the_consumer_that_asked(self) -> None:
        item = {
            "provider": "openai",
            "status": 429,
            "body": {"error": {"code": "project_spend_limit_exceeded"}},
            "model": "gpt-5",
            "consumer": "search",
        }
        (signal,) = read(json.dumps(item).encode(), NOW).signals
        assert (signal.consumer, signal.model, signal.request_model) == ("search", "", "gpt-5")

    def test_who_pushes_is_who_asked_where_an_item_does_not_say(self) -> None:
        body = {"error": {"code": "project_spend_limit_exceeded"}}
        item: dict[str, object] = {"provider": "openai", "status": 429, "body": body}
        items = json.dumps([item, {**item, "consumer": "search"}]).encode()
        signals = read(items, NOW, consumer="batch").signals
        assert [one.consumer for one in signals] == ["batch", "search"]

    ok = '{"provider": "a", "status": 200}'

    @pytest.mark.parametrize("template", ["[{0}, {1}, {0}]", "{0}\n{1}\n\n{0}\n"])
    def test_many_are_read_one_by_one(self, template: str) -> None:
        reading = read(template.format(self.ok, '{"provider": "b"}').encode(), NOW)
        assert [signal.provider for signal in reading.signals] == ["a", "a"]
        assert [rejection.index for rejection in reading.rejected] == [1]

    def test_without_a_timestamp_the_arrival_counts(self) -> None:
        assert read(self.ok.encode(), NOW).signals[0].at == NOW

    def test_the_model_that_was_asked_for_is_kept(self) -> None:
        (signal,) = read(b'{"provider": "a", "status": 200, "model": "m-1"}', NOW).signals
        assert (signal.request_model, signal.model) == ("m-1", "")

    @pytest.mark.parametrize("said", ['"2026-08-14T12:00:00+02:00"', "1786701600", "1786701600.0"])
    def test_a_timestamp_is_rfc_3339_or_unix_seconds(self, said: str) -> None:
        body = f'{{"provider": "a", "status": 200, "timestamp": {said}}}'
        assert read(body.encode(), 0.0).signals[0].at == NOW

    @pytest.mark.parametrize(
        ("item", "error"),
        [
            ("3", "Expected `object`, got `int`"),
            ("{}", "Object missing required field `provider`"),
            ('{"provider": "a"}', "Object missing required field `status`"),
            ('{"provider": "a", "status": "429"}', "status: expected `int`, got '429'"),
            ('{"provider": null, "status": 429}', "provider: expected `str`, got None"),
            ('{"provider": "", "status": 429}', "provider: expected a name, got ''"),
            ('{"provider": "a", "status": 429, "model": 4}', "model: expected `str`, got 4"),
            (
                '{"provider": "a", "status": 429, "consumer": {}}',
                "consumer: expected `str`, got {}",
            ),
            (
                '{"provider": "a", "status": 1000}',
                "status: expected an HTTP status from 100 to 599, got 1000",
            ),
            (
                '{"provider": "a", "status": 429, "header": {}}',
                "Object contains unknown field `header`",
            ),
            (
                '{"provider": "a", "status": 429, "headers": []}',
                "headers: expected `object`, got `array`",
            ),
            (
                '{"provider": "a", "status": 429, "timestamp": "2026-08-14T10:00:00"}',
                "timestamp: expected Unix seconds or RFC 3339 with an offset, "
                "got '2026-08-14T10:00:00'",
            ),
            (
                '{"provider": "a", "status": 429, "timestamp": -5}',
                "timestamp: expected Unix seconds from 1970 to 9999, got -5.0",
            ),
        ],
    )
    def test_what_is_wrong_is_said_with_its_value(self, item: str, error: str) -> None:
        reading = read(f"[{item}]".encode(), NOW)
        assert [rejection.error for rejection in reading.rejected] == [error]

    def test_a_secret_in_a_bad_header_is_not_repeated(self) -> None:
        item = '{"provider": "a", "status": 429, "headers": {"authorization": {"key": "s3cret"}}}'
        assert "s3cret" not in read(item.encode(), NOW).rejected[0].error

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b" ", "expected a JSON object, an array, or one object per line, got nothing"),
            (b"{", "not JSON: Input data was truncated"),
            (b"hello", "not JSON: JSON is malformed: invalid character (byte 0)"),
        ],
    )
    def test_a_body_of_another_kind_is_malformed(self, body: bytes, message: str) -> None:
        with pytest.raises(MalformedBody) as error:
            read(body, NOW)
        assert str(error.value) == message

    def test_nesting_without_end_is_malformed_or_ignored(self) -> None:
        deep = "[" * 100_000
        with pytest.raises(MalformedBody):
            read(deep.encode(), NOW)
        assert refusal({}, '{"error": ' + deep).verdict is Verdict.THROTTLED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        (" 1.5 ", 1.5),
        ("6m0s", 360),
        ("120ms", 0.12),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("37s", 37),
        ("00:14:23", 863),
        ("1.02:00:00", 93600),
        ("5 hours 3 minutes", 18180),
        ("900 milliseconds", 0.9),
        ("3 months", None),
        ("-1s", None),
        ("s", None),
        ("", None),
        (None, None),
        (True, None),
        (10**400, None),
    ],
)
def test_a_duration_is_read_in_every_notation(text: object, seconds: float | None) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", NOW + 30),
        ("6m0s", NOW + 360),
        (1786708800, 1786708800),
        ("1786708800000", 1786708800),
        ("2026-08-14T12:00:00Z", 1786708800),
        ("2026-08-14T12:00:00", 1786708800),
        ("Fri, 14 Aug 2026 12:00:00 GMT", 1786708800),
        ("tomorrow", None),
        ([], None),
    ],
)
def test_a_moment_is_read_in_every_notation(value: object, seconds: float | None) -> None:
    assert moment(value, NOW) == seconds


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1_000", "0x10", "", None, True, math.nan])
def test_what_is_no_amount_is_none(value: object) -> None:
    assert number(value) is None


def test_an_item_that_is_wrong_and_broken_off_is_refused_like_any_other() -> None:
    found = read(b'{"provider": 5, "status"\n{"provider": "openai", "status": 200}', NOW)
    assert [one.index for one in found.rejected] == [0]
    assert [one.provider for one in found.signals] == ["openai"]


@pytest.mark.parametrize("minutes", ["1e308", "1e9", "NaN", "-300", "1e400", "0"])
def test_a_window_longer_than_a_year_is_none(minutes: str) -> None:
    headers = {"x-codex-primary-used-percent": "99", "x-codex-primary-window-minutes": minutes}
    assert read_response("codex", 200, headers, None, NOW).limits == ()
