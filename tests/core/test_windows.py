"""Windows of calendar and rolling periods, as the clocks of the world really run."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exporter.core.windows import (
    DAY,
    MAX_ROLLING_SECONDS,
    MIN_ROLLING_SECONDS,
    Calendar,
    Rolling,
    Unit,
    Window,
    format_duration,
    parse_duration,
    parse_period,
    utc_offset,
)

UTC_ZONE = ZoneInfo("UTC")
HOUR = 3600

zones = st.timezones()
instants = st.floats(946_684_800, 2_145_916_800)  # 2000 to 2037
calendars = st.builds(Calendar, st.sampled_from(Unit), zones)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@given(calendars, instants)
def test_a_window_contains_the_moment_it_was_asked_for(period: Calendar, now: float) -> None:
    start, end = period.window(now)
    assert start <= now < end
    assert end - start <= period.longest


@given(calendars, instants)
def test_windows_tile_time_exactly(period: Calendar, now: float) -> None:
    window = period.window(now)
    assert period.window(window.end).start == window.end
    assert period.window(math.nextafter(window.end, 0)) == window
    assert period.window(window.start) == window
    assert period.window(math.nextafter(window.start, 0)).end == window.start


# Zones whose offsets changed in unusual ways, walked through the days around the change.
@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),  # skipped a whole day
        ("America/St_Johns", "2010-11-07T02:31:00Z"),  # set back from 00:01 to 23:01
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),  # no midnight
        ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),  # back to 23:00
        ("America/Havana", "2024-11-03T05:00:00Z"),  # midnight twice
        ("Australia/Lord_Howe", "2024-04-06T15:00:00Z"),  # back half an hour
        ("Australia/Lord_Howe", "2024-10-05T15:30:00Z"),  # ahead half an hour
        ("Asia/Pyongyang", "2018-05-04T15:00:00Z"),  # 23:30 became midnight
        ("America/Toronto", "1919-03-31T04:30:00Z"),  # 23:30 became 00:30
        ("Africa/Monrovia", "1972-01-07T00:44:30Z"),  # offset with seconds
    ],
)
def test_windows_tile_time_where_clocks_jump(unit: Unit, zone: str, around: str) -> None:
    period = Calendar(unit, ZoneInfo(zone))
    window = period.window(seconds(around) - 2 * HOUR)
    while window.start < seconds(around) + 2 * HOUR:
        following = period.window(window.end)
        assert following.start == window.end < following.end
        for now in (window.start, (window.start + window.end) / 2, window.end - 0.001):
            assert period.window(now) == window
        window = following


def test_a_fraction_of_a_second_before_midnight_is_the_old_day() -> None:
    before = math.nextafter(86_400 * 20_000, 0)
    assert Calendar(Unit.DAY, UTC_ZONE).window(before).end == 86_400 * 20_000


@given(st.sampled_from([Unit.DAY, Unit.WEEK, Unit.MONTH]), zones, instants)
def test_long_windows_begin_at_local_midnight(unit: Unit, zone: ZoneInfo, now: float) -> None:
    start, _ = Calendar(unit, zone).window(now)
    first = datetime.fromtimestamp(start, zone)
    midnight = first.replace(hour=0, minute=0, second=0, fold=0)
    exists = midnight.astimezone(UTC).astimezone(zone).replace(fold=0) == midnight
    assume(exists)
    assert first == midnight
    if unit is Unit.WEEK:
        assert first.strftime("%A") == "Monday"
    if unit is Unit.MONTH:
        assert first.day == 1


@pytest.mark.parametrize(
    ("unit", "zone", "now", "start", "end"),
    [
        ("day", "UTC", "2026-05-04T12:00:00Z", "2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z"),
        # 23 and 25 hours
        (
            "day",
            "Europe/Berlin",
            "2026-03-29T12:00:00Z",
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        ),
        (
            "day",
            "Europe/Berlin",
            "2026-10-25T12:00:00Z",
            "2026-10-25T00:00:00+02:00",
            "2026-10-26T00:00:00+01:00",
        ),
        # 23.5 and 24.5 hours
        (
            "day",
            "Australia/Lord_Howe",
            "2024-10-06T00:00:00Z",
            "2024-10-06T00:00:00+10:30",
            "2024-10-07T00:00:00+11:00",
        ),
        (
            "day",
            "Australia/Lord_Howe",
            "2024-04-07T00:00:00Z",
            "2024-04-07T00:00:00+11:00",
            "2024-04-08T00:00:00+10:30",
        ),
        # days whose midnight does not exist begin at one o'clock
        (
            "day",
            "America/Sao_Paulo",
            "2018-11-04T12:00:00Z",
            "2018-11-04T01:00:00-02:00",
            "2018-11-05T00:00:00-02:00",
        ),
        (
            "day",
            "Africa/Cairo",
            "2024-04-26T12:00:00Z",
            "2024-04-26T01:00:00+03:00",
            "2024-04-27T00:00:00+03:00",
        ),
        # of two midnights the first begins the day
        (
            "day",
            "America/Havana",
            "2024-11-03T12:00:00Z",
            "2024-11-03T00:00:00-04:00",
            "2024-11-04T00:00:00-05:00",
        ),
        # the minute after midnight belongs to the new day, and so does the hour shown again
        (
            "day",
            "America/St_Johns",
            "2010-11-06T23:30:00-03:30",
            "2010-11-07T00:00:00-02:30",
            "2010-11-08T00:00:00-03:30",
        ),
        # from 29 to 31 December, with nothing in between
        (
            "day",
            "Pacific/Apia",
            "2011-12-29T12:00:00-10:00",
            "2011-12-29T00:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
        ),
        (
            "week",
            "Europe/Berlin",
            "2026-03-29T23:59:59+02:00",
            "2026-03-23T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        ),
        (
            "week",
            "UTC",
            "2026-01-01T00:00:00Z",
            "2025-12-29T00:00:00Z",
            "2026-01-05T00:00:00Z",
        ),
        (
            "month",
            "America/New_York",
            "2026-03-31T23:00:00-04:00",
            "2026-03-01T00:00:00-05:00",
            "2026-04-01T00:00:00-04:00",
        ),
        ("month", "UTC", "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("month", "UTC", "2025-12-31T00:00:00Z", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        # hours begin when the clocks there say so
        (
            "hour",
            "Asia/Kolkata",
            "2026-05-04T12:00:00Z",
            "2026-05-04T17:00:00+05:30",
            "2026-05-04T18:00:00+05:30",
        ),
        (
            "hour",
            "Asia/Kathmandu",
            "2026-05-04T12:00:00Z",
            "2026-05-04T17:00:00+05:45",
            "2026-05-04T18:00:00+05:45",
        ),
        # an hour shown twice is two windows
        (
            "hour",
            "America/New_York",
            "2026-11-01T01:30:00-05:00",
            "2026-11-01T01:00:00-05:00",
            "2026-11-01T02:00:00-05:00",
        ),
        # half an hour shown twice, half an hour skipped
        (
            "hour",
            "Australia/Lord_Howe",
            "2024-04-07T01:45:00+10:30",
            "2024-04-07T01:30:00+10:30",
            "2024-04-07T02:00:00+10:30",
        ),
        (
            "hour",
            "Australia/Lord_Howe",
            "2024-10-06T02:45:00+11:00",
            "2024-10-06T02:30:00+11:00",
            "2024-10-06T03:00:00+11:00",
        ),
        (
            "minute",
            "Asia/Kathmandu",
            "2026-05-04T12:00:59.9Z",
            "2026-05-04T12:00:00Z",
            "2026-05-04T12:01:00Z",
        ),
    ],
)
def test_a_window_follows_the_clocks_of_its_zone(
    unit: str, zone: str, now: str, start: str, end: str
) -> None:
    period = Calendar(Unit(unit), ZoneInfo(zone))
    assert period.window(seconds(now)) == Window(seconds(start), seconds(end))


@given(st.sampled_from([10.0, 5400.0, 18_000.0, 35.0 * DAY]), instants)
def test_a_rolling_window_ends_now(length: float, now: float) -> None:
    window = Rolling(length).window(now)
    assert window.end == now
    assert window.start == now - length


@given(zones, instants)
def test_the_offset_is_what_clocks_show_beyond_utc(zone: ZoneInfo, now: float) -> None:
    local = datetime.fromtimestamp(math.floor(now), zone).replace(tzinfo=None)
    utc = datetime.fromtimestamp(math.floor(now), UTC).replace(tzinfo=None)
    assert timedelta(seconds=utc_offset(zone, now)) == local - utc


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("minute", "minute"),
        ("hour", "hour"),
        ("day", "day"),
        ("week", "week"),
        ("month", "month"),
        ("5h", "5h"),
        ("300m", "5h"),
        ("90m", "1h30m"),
        ("1h30m", "1h30m"),
        ("24h", "1d"),
        ("1w", "7d"),
        ("35d", "35d"),
        ("10s", "10s"),
        ("10s500ms", "10s500ms"),
    ],
)
def test_a_period_is_named_in_one_way_only(text: str, name: str) -> None:
    period = parse_period(text, UTC_ZONE)
    assert period.name == name
    assert period.rolling is name[0].isdigit()
    assert parse_period(name, UTC_ZONE) == period


EITHER = "expected minute, hour, day, week, month or a duration like 5h"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", EITHER),
        ("Day", EITHER),
        ("daily", EITHER),
        ("5", EITHER),
        ("h", EITHER),
        ("-5h", EITHER),
        ("5.5h", EITHER),
        ("5 h", EITHER),
        ("30m5h", EITHER),
        ("5h5h", EITHER),
        ("٥h", EITHER),
        ("9s", "expected a duration from 10s to 35d"),
        ("0s", "expected a duration from 10s to 35d"),
        ("35d1ms", "expected a duration from 10s to 35d"),
        ("1y", "expected a duration from 10s to 35d"),
    ],
)
def test_what_is_no_period_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        parse_period(text, UTC_ZONE)
    assert str(caught.value) == message


@given(st.integers(MIN_ROLLING_SECONDS * 1000, MAX_ROLLING_SECONDS * 1000))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_no_time_at_all_is_still_written() -> None:
    assert format_duration(0) == "0s"
