"""What a provider reports of a limit, window by window."""

import msgspec
import pytest

from exporter.core.reports import (
    COURSE,
    MAX_WINDOWS,
    Report,
    WindowReports,
    first_report,
    is_quota,
    share_of,
)
from exporter.core.signal import Limit
from exporter.core.windows import DAY, HOUR

WEEK = 7 * DAY
NOW = 1_790_000_000.0
ENDS = NOW + 3 * DAY


def week(used: float | None, ends: float | None = ENDS) -> Limit:
    return Limit("7d", utilization=used, reset_at=ends, unit="share", window=WEEK)


def heard(*said: tuple[float, float | None, float | None]) -> Report:
    """Reports of a week: how long after `NOW`, the share, and the reset."""
    (after, used, ends), *rest = said
    report = first_report(week(used, ends), NOW + after)
    for after, used, ends in rest:
        report = report.followed_by(week(used, ends), NOW + after)
    return report


def seen(report: Report) -> list[tuple[float, float, float, float]]:
    return [
        (one.begin_used, one.first_used, one.last_used, one.last_at - NOW) for one in report.windows
    ]


def test_reports_of_one_window_are_its_first_and_its_last() -> None:
    report = heard((0, 0.1, ENDS), (60, 0.2, ENDS), (120, 0.25, ENDS))
    assert report.windows == (WindowReports(ENDS, ENDS - WEEK, 0.0, NOW, 0.1, NOW + 120, 0.25),)


def test_of_a_window_reports_are_remembered_at_some_distance() -> None:
    often = [(hour * HOUR / 2, 0.001 * hour, ENDS) for hour in range(6 * 24)]
    [one] = heard(*often).windows
    assert [(at - NOW) / HOUR for at, _ in one.course] == [*range(6, 72, 6)]
    assert [share for _, share in one.course] == [0.001 * hour for hour in range(12, 6 * 24, 12)]


def test_a_window_remembers_no_more_than_its_parts() -> None:
    begins = NOW - WEEK
    report = first_report(week(0.0), begins)
    for minute in range(0, int(WEEK / 60), 7):
        report = report.followed_by(week(minute / 20_000, NOW), begins + 60 * minute)
    [one] = report.windows
    assert COURSE - 2 <= len(one.course) <= COURSE
    assert sorted(one.course) == list(one.course)


def test_windows_that_were_stored_before_they_had_a_course_are_read() -> None:
    stored = b"[1.0,0.0,0.0,0.5,0.1,0.9,0.2]"
    assert msgspec.json.decode(stored, type=WindowReports).course == ()


def test_a_later_reset_begins_another_window() -> None:
    report = heard((0, 0.9, ENDS), (3 * DAY + 60, 0.01, ENDS + WEEK))
    assert seen(report) == [(0.0, 0.9, 0.9, 0.0), (0.0, 0.01, 0.01, 3 * DAY + 60)]


def test_a_reset_that_is_a_little_off_is_of_the_same_window() -> None:
    report = heard((0, 0.1, ENDS), (60, 0.2, ENDS + 7), (120, 0.2, ENDS - 7))
    assert len(report.windows) == 1


def test_a_share_that_is_set_back_is_counted_from_there() -> None:
    report = heard((0, 0.5, ENDS), (60, 0.1, ENDS), (120, 0.2, ENDS))
    assert seen(report) == [(0.0, 0.5, 0.5, 0.0), (0.1, 0.1, 0.2, 120)]


def test_a_share_that_is_rounded_otherwise_is_not_set_back() -> None:
    assert seen(heard((0, 0.5, ENDS), (60, 0.49, ENDS))) == [(0.0, 0.5, 0.49, 60)]


def test_an_older_report_than_the_last_changes_nothing() -> None:
    report = heard((60, 0.2, ENDS))
    assert report.followed_by(week(0.1), NOW) is report


def test_a_reset_that_one_response_leaves_out_is_still_known() -> None:
    report = heard((0, 0.1, ENDS), (60, 0.2, None))
    assert report.limit.reset_at == ENDS
    assert seen(report) == [(0.0, 0.1, 0.2, 60)]


def test_a_reset_that_has_passed_is_not_kept() -> None:
    assert heard((0, 0.1, ENDS), (4 * DAY, 0.2, None)).limit.reset_at is None


def test_the_last_windows_are_remembered() -> None:
    report = heard(*((at * WEEK, 0.5, ENDS + at * WEEK) for at in range(MAX_WINDOWS + 3)))
    assert len(report.windows) == MAX_WINDOWS
    assert report.windows[-1].ends == ENDS + (MAX_WINDOWS + 2) * WEEK


@pytest.mark.parametrize(("after", "gone"), [(WEEK - 1, False), (WEEK, True)])
def test_it_is_forgotten_when_none_came_for_as_long_as_the_window(after: float, gone: bool) -> None:
    assert heard((0, 0.5, ENDS)).forgotten(NOW + after) == gone


@pytest.mark.parametrize(
    ("limit", "share"),
    [
        (Limit("x", utilization=0.3), 0.3),
        (Limit("x", utilization=1.2), 1.2),
        (Limit("x", 100, 25), 0.75),
        (Limit("x", 100, 125), 0.0),
        (Limit("x", 0, 0), None),
        (Limit("x", 100), None),
        (Limit("x", remaining=25), None),
    ],
)
def test_a_share_is_told_or_worked_out(limit: Limit, share: float | None) -> None:
    assert share_of(limit) == share


QUOTA = Limit("requests", 100, 90, reset_at=ENDS, unit="requests", window=DAY)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (week(0.5), True),
        (Limit("5h", utilization=0.5, reset_at=ENDS, unit="share", window=5 * HOUR), True),
        (QUOTA, True),
        (Limit("tokens", 100, 90, reset_at=ENDS, unit="tokens", window=30 * DAY), True),
        (Limit("5m", utilization=0.5, reset_at=ENDS, unit="share", window=300.0), False),
        (Limit("requests", 100, 90, reset_at=ENDS, unit="requests", window=60.0), False),
        (Limit("requests", 100, 90, reset_at=ENDS, unit="requests"), False),
        (Limit("requests", 100, 90, unit="requests", window=DAY), False),
        (Limit("requests", 100, reset_at=ENDS, unit="requests", window=DAY), False),
        (Limit("requests", 0.5, 0, reset_at=ENDS, unit="requests", window=DAY), False),
        (Limit("spend", 100, 90, reset_at=ENDS, unit="usd", window=30 * DAY), True),
        (Limit("credits", 100, 90, unit="usd"), False),
        (Limit("spend", 100, 90, reset_at=ENDS, unit="eur", window=30 * DAY), False),
        (Limit("overage", utilization=0.5, unit="share"), False),
    ],
)
def test_a_window_of_a_plan_or_of_a_day_and_longer_is_a_quota(limit: Limit, expected: bool) -> None:
    assert is_quota(limit) == expected


def test_a_report_that_a_clock_ahead_stamped_gives_way_to_the_next_one() -> None:
    report = heard((0, 0.2, ENDS), (60, 0.3, ENDS))
    ahead = report.followed_by(week(0.9, ENDS + WEEK), NOW + 5 * DAY)
    after = ahead.followed_by(week(0.4), NOW + 120, now=NOW + 120)
    assert (after.at, after.limit.utilization) == (NOW + 120, 0.4)
    assert max(one.last_at for one in after.windows) == NOW + 120
    for one, other in ((ahead, after), (after, ahead)):
        assert one.merged(other, now=NOW + 120) == after


def test_clocks_of_replicas_may_differ_a_little() -> None:
    report = heard((30, 0.2, ENDS))
    assert report.followed_by(week(0.1), NOW, now=NOW) is report
