"""The whole backtest, from files to scores."""

import argparse
import csv
import re
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from exporter.backtest import parallel
from exporter.backtest.command import add_arguments, run
from exporter.backtest.enough import enough
from exporter.backtest.replay import PROBABILITY, WAIT, replay, steps
from exporter.backtest.scores import Judge, Scores
from exporter.backtest.table import enough_table
from exporter.backtest.truth import truth
from exporter.backtest.usage import Rows
from exporter.config import Config
from exporter.core.budget import Budget
from exporter.core.series import Series
from exporter.core.slots import REQUESTS, WIDTH
from exporter.core.windows import Calendar, Rolling, Unit
from exporter.plot.plot import Plot

HOUR, DAY = 3600, 86_400
MIDNIGHT = 1_736_121_600.0
DAILY = Calendar(Unit.DAY, ZoneInfo("UTC"))

Start = Callable[..., int]


def rows(*uses: tuple[float, int]) -> Rows:
    moments, tokens = zip(*uses, strict=True)
    counts = np.zeros((len(uses), WIDTH), np.int64)
    counts[:, REQUESTS - 1] = tokens
    return Rows(MIDNIGHT + np.array(moments, float), counts)


def series(usage: dict[str, Rows]) -> dict[Series, Rows]:
    return {Series(name): each for name, each in usage.items()}


def hourly(days: int, per_hour: Callable[[int, int], int]) -> Rows:
    """Use at every full hour, given day and hour."""
    return rows(
        *(
            (day * DAY + hour * HOUR, per_hour(day, hour))
            for day in range(days)
            for hour in range(24)
        )
    )


def replayed(
    usage: dict[str, Rows], budgets: dict[str, tuple[Budget, ...]], every: float = HOUR
) -> tuple[Judge, dict[str, Scores]]:
    found = series(usage)
    times, until = steps(found, every)
    config = Config(budgets=budgets)
    decisions = replay(found, config, "linear", times, until, lambda _: None)
    came = truth(decisions, found)
    judge = Judge.of(decisions, came, range(len(decisions.cases)))
    return judge, {name: judge.score(name) for name in decisions.said}


def test_a_decision_knows_only_what_was_before_it() -> None:
    judge, _ = replayed({"a": hourly(1, lambda *_: 10)}, {"a": (Budget(1000, DAILY),)})
    assert judge.decisions.times.tolist() == [MIDNIGHT + hour * HOUR for hour in range(24)]
    assert judge.decisions.used[:, 0].tolist() == [10.0 * hour for hour in range(24)]


def test_steps_are_multiples_of_the_interval_until_the_usage_ends() -> None:
    usage = series({"a": rows((100, 1), (2 * HOUR + 1, 1)), "b": rows((HOUR, 1))})
    times, until = steps(usage, 1800)
    assert times.tolist() == [MIDNIGHT + half * 1800 for half in range(1, 5)]
    assert until == MIDNIGHT + 5 * 1800


def test_what_came_true_is_the_use_of_the_whole_window() -> None:
    usage = hourly(2, lambda day, _: 10 if day else 9)
    judge, _ = replayed({"a": usage}, {"a": (Budget(240, DAILY), Budget(80, Rolling(8 * HOUR)))})
    daily, rolling = judge.truth.exhausted.T.tolist()
    assert daily == [0] * 24 + [1] * 24
    assert judge.truth.final[[0, 30], 0].tolist() == [216, 240]
    assert judge.truth.moment[30, 0] == MIDNIGHT + 2 * DAY
    # The sum of eight hours is 80 from 7 h of the second day on: within reach eight hours before.
    assert rolling == [0] * 23 + [1] * 18 + [-1] * 7
    assert judge.truth.moment[30, 1] == MIDNIGHT + DAY + 8 * HOUR


def test_a_window_that_is_cut_short_is_neither_scored_nor_judged() -> None:
    usage = hourly(5, lambda *_: 10)
    cut = Rows(usage.timestamps[:-6], usage.counts[:-6])
    judge, scores = replayed({"a": cut}, {"a": (Budget(100, DAILY),)})
    assert (judge.truth.exhausted[-18:] == -1).all()
    assert np.isnan(judge.truth.final[-18:]).all()
    assert len(judge.episodes) == 1
    assert scores["linear"].decisions == 10


def test_scores_are_those_of_decisions_while_the_budget_lasts() -> None:
    """All is used at 6 h: the line is wrong twice a day at most, at 0 h and after a spent one."""

    def use(day: int, hour: int) -> int:
        return (100 if day % 2 else 40) if hour == 6 else 0

    judge, scores = replayed({"a": hourly(9, use)}, {"a": (Budget(90, DAILY),)})
    linear = scores["linear"]
    # Days 3 to 8, three of them exhausted at 6 h: 7 decisions each, none of which saw it coming;
    # on the others 24, of which those from 7 to 10 h cried wolf (40 x 24 / 10 is 96).
    assert linear.decisions == 3 * 7 + 3 * 24
    assert linear.brier == pytest.approx((3 * 7 + 3 * 4) / (3 * 31))
    assert judge.base_brier == pytest.approx(21 / 93 * 72 / 93)
    assert linear.cold == pytest.approx(4 / 24)
    alerts = linear.alerts[0]
    assert (alerts.caught, alerts.exhausted, alerts.false, alerts.good) == (0, 3, 3, 3)
    assert (alerts.recall, alerts.false_share, alerts.precision) == (0, 1, 0)
    assert linear.is_certain


def test_an_alert_needs_its_threshold_for_half_an_hour_and_comes_half_an_hour_ahead() -> None:
    usage = {"a": hourly(5, lambda day, hour: 10 if day == 3 and hour < 12 else 0)}
    judge, _ = replayed(usage, {"a": (Budget(100, DAILY),)}, every=600)
    said = judge.decisions.said["linear"]
    [episode] = judge.episodes
    assert episode.moment == MIDNIGHT + 3 * DAY + 9 * HOUR + 600
    for steps_held, ahead, caught in (
        (3, 12, 0),
        (4, 12, 1),
        (4, 7, 1),
        (4, 5, 0),
        (9, 6, 1),
        (9, 3, 0),
    ):
        said[PROBABILITY] = 0
        spent = episode.first + 55
        said[PROBABILITY, spent - ahead : spent - ahead + steps_held] = 0.85
        low, high = judge.score("linear").alerts
        assert low.caught == caught, (steps_held, ahead)
        assert high.caught == high.right == 0
    said[PROBABILITY, episode.first - 3 : episode.first + 1] = 1
    assert judge.score("linear").alerts[1].right == 0, "an alert began in the window before"


def test_the_moments_error_is_the_median_distance_to_the_step_that_knew() -> None:
    usage = {"a": hourly(4, lambda *_: 10)}
    judge, scores = replayed(usage, {"a": (Budget(120, DAILY),)})
    assert scores["linear"].moment_error == pytest.approx(0)
    judge.decisions.said["linear"][WAIT] += 1800
    assert judge.score("linear").moment_error == pytest.approx(0.5)


def test_a_rolling_budget_is_judged_when_it_runs_out() -> None:
    def use(day: int, hour: int) -> int:
        return 50 if hour in (10, 11) and day >= 3 else 1

    judge, scores = replayed({"a": hourly(8, use)}, {"a": (Budget(90, Rolling(4 * HOUR)),)})
    exhausted = [one for one in judge.episodes if not np.isnan(one.moment)]
    assert [(one.moment - MIDNIGHT) % DAY for one in exhausted] == [12 * HOUR] * 5
    assert all(one.end - one.first == 4 for one in exhausted)
    assert scores["linear"].alerts[0].exhausted == 5
    assert scores["linear"].alerts[0].good == 5 * 3 - 1


def test_several_processes_decide_as_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "WORTH_SPLITTING", 100)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 3)
    rng = np.random.default_rng(1)
    names = ("a", "b", "c", "d")
    usage = series({name: hourly(3, lambda *_: int(rng.integers(0, 100))) for name in names})
    pool = {"together": (Budget(2400, DAILY, pool=("a", "c")),)}
    config = Config(budgets={name: (Budget(1200, DAILY),) for name in names} | pool)
    times, until = steps(usage, HOUR)
    seen: list[int] = []
    several = parallel.replay_on_all_cores(usage, config, "linear", times, until, seen.append)
    one = replay(usage, config, "linear", times, until, seen.append)
    order = [several.cases.index(case) for case in one.cases]
    [together] = [at for at, case in enumerate(several.cases) if case.scope.provider == "together"]
    assert several.used[:, together].any()
    assert [several.counted[at] for at in order] == one.counted
    np.testing.assert_array_equal(several.used[:, order], one.used)
    for name, said in one.said.items():
        np.testing.assert_array_equal(several.said[name][:, :, order], said)


# -- the command --


@pytest.fixture
def backtest(tmp_path: Path) -> Start:
    """Run it on usage and budgets that are given as texts; other options follow."""

    def start(usage: str, budgets: str, *options: str, columns: str = "tokens") -> int:
        (tmp_path / "usage.csv").write_text(f"timestamp,provider,{columns}\n" + usage)
        (tmp_path / "budgets.yml").write_text(budgets)
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        files = ("--usage", f"{tmp_path}/usage.csv", "--config.file", f"{tmp_path}/budgets.yml")
        return run(parser.parse_args([*files, *options]))

    return start


def sixes(days: int, provider: str = "openai") -> str:
    """Use at every sixth hour, growing through the day."""
    return "".join(
        f"{MIDNIGHT + day * DAY + hour * HOUR:.0f},{provider},{100 + hour * (day % 3)}\n"
        for day in range(days)
        for hour in range(0, 24, 6)
    )


def test_every_decision_is_written_with_what_came_true(
    backtest: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "predictions.csv"
    budgets = "budgets: {openai: [430, {tokens: 250, period: 12h}], unused: 5}\n"
    usage = sixes(6) + f"{MIDNIGHT + 6 * DAY:.0f},openai,1\n{MIDNIGHT:.0f},other,1\n"
    assert backtest(usage, budgets, "--every", "1h", "--output", str(output)) == 0
    with output.open() as file:
        written = list(csv.DictReader(file))
    assert output.read_text().startswith(
        "timestamp,provider,period,used_tokens,budget_tokens,projected_tokens,projected_lower,"
        "projected_upper,probability,exhaustion_timestamp,exhausted\n"
    )
    assert len(written) == 2 * (6 * 24 + 1)
    days = [row for row in written if row["period"] == "day"]
    assert [row["exhausted"] for row in days] == (["0"] * 24 + ["1"] * 48) * 2 + [""]
    assert days[37]["used_tokens"] == "318"
    assert days[37]["timestamp"] == f"{MIDNIGHT + DAY + 13 * HOUR:.0f}"
    assert all(0 <= float(row["probability"]) <= 1 for row in written)
    for row in written:
        likely = float(row["probability"]) > 0.5
        assert bool(row["exhaustion_timestamp"]) == likely
        assert float(row["projected_lower"]) <= float(row["projected_upper"])
    printed = capsys.readouterr()
    assert "left out, no budget: other" in printed.err
    assert "left out, no usage: unused" in printed.err
    for period in ("day", "12h"):
        assert re.search(rf"^{period}: 1 budgets, [\d,]+ scored decisions", printed.out, re.M)
    for method in ("forecast", "linear", "predict_linear_1h", "predict_linear_6h", "base rate"):
        assert printed.out.count(f"\n{method}") >= 2


def test_the_report_answers_in_words_and_draws(backtest: Start, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    assert (
        backtest(sixes(9), "budgets: {openai: 430}\n", "--every", "30m", "--report", str(report))
        == 0
    )
    page = report.read_text()
    assert "Would I have been warned, when, and how often for nothing?" in page
    assert re.search(r"\d+ of 3 windows that ran out had an alert", page)
    assert re.search(r"\d+ of 2 windows that stayed under budget had an alert", page)
    assert page.count("<svg") >= 2
    assert "nan" not in page.lower().replace("finance", "")
    assert not re.findall(r"""(?:src|href)=["']""", page), "it needs nothing beside itself"


def test_too_little_usage_is_said_and_no_error(
    backtest: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    assert backtest(sixes(1), "budgets: {openai: 430}\n", "--report", str(report)) == 0
    assert "there is too little usage" in report.read_text()
    assert "0 scored decisions" in capsys.readouterr().out


def test_the_configured_method_is_taken_and_another_may_be_chosen(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = "budgets: {openai: 430}\nprediction: {method: linear}\n"
    assert backtest(sixes(5), budgets, "--every", "1h") == 0
    assert "forecast" not in capsys.readouterr().out
    assert backtest(sixes(5), budgets, "--every", "1h", "--method", "forecast") == 0
    assert "forecast" in capsys.readouterr().out


def test_usage_counts_under_the_alias_of_its_name(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = "budgets: {openai: 430}\naliases: {gpt: openai}\n"
    assert backtest(sixes(4, "gpt") + sixes(4), budgets, "--every", "1h") == 0
    assert "32 rows of 1 providers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("usage", "budgets", "options", "message"),
    [
        ("1,openai,x\n", "budgets: {openai: 5}\n", [], "usage.csv:2: tokens: expected a number"),
        ("1,a,1\n", "budgets: {openai: 5}\n", [], "usage.csv: no usage of openai, for which "),
        ("1,openai,1\n", "budgets: {openai: -5}\n", [], "budgets.yml:1: budgets.openai: "),
        (
            "1,openai,1\n",
            "budgets: {openai: 5}\n",
            ["--output", "/none/x.csv"],
            "/none/x.csv: cannot write it: No such file or directory",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    backtest: Start,
    capsys: pytest.CaptureFixture[str],
    usage: str,
    budgets: str,
    options: list[str],
    message: str,
) -> None:
    assert backtest(usage, budgets, *options) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("every", ["0s", "ten", "500ms"])
def test_an_interval_that_is_none_is_refused(
    backtest: Start, capsys: pytest.CaptureFixture[str], every: str
) -> None:
    with pytest.raises(SystemExit):
        backtest("1,openai,1\n", "budgets: {openai: 5}\n", "--every", every)
    assert f"got {every}" in capsys.readouterr().err


def test_enough_is_one_token_more_than_was_used_in_95_percent_of_the_windows() -> None:
    usage = {"a": hourly(21, lambda day, hour: 100 + day if hour == 5 else 0)}
    budgets = {"a": (Budget(111, DAILY), Budget(1000, Rolling(5 * HOUR)))}
    judge, _ = replayed(usage, budgets)
    day, rolling = enough(judge.decisions, judge.truth)
    assert (day.quota.scope.provider, day.windows, day.enough) == ("a", 21, 120)
    assert day.lasted == pytest.approx(11 / 21)
    assert rolling.lasted == 1
    assert rolling.enough == 117


def test_without_a_complete_window_nothing_is_said_to_be_enough() -> None:
    judge, _ = replayed({"a": rows((0, 5), (7200, 5))}, {"a": (Budget(111, DAILY),)})
    [need] = enough(judge.decisions, judge.truth)
    assert need.windows == 0
    assert np.isnan(need.enough)
    assert enough_table([need]).splitlines()[1:] == ["", "and 1 more; --report lists all"]


def test_the_report_has_a_row_for_every_budget(backtest: Start, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    usage = sixes(9) + sixes(9, "gemini")
    budgets = "budgets: {openai: 430, gemini: 100}\n"
    assert backtest(usage, budgets, "--every", "1h", "--report", str(report)) == 0
    page = report.read_text()
    assert "Every budget" in page
    for name, tokens in (("openai", 430), ("gemini", 100)):
        assert f"<tr><td>{name}</td><td>{tokens}</td>" in page
    assert "prefers-color-scheme: dark" in page
    for threshold in (0.8, 0.9):
        assert f"forecast, p ≥ {threshold} <span>" in page


SCOPED = """budgets:
  openai:
    - {requests: 9, per: model}
    - {usd: 1.5, period: day}
    - {tokens: 900, period: 12h, consumer: batch-*}
    - {tokens: 430, model: gpt-5*, weights: {output_tokens: 2}}
"""


def everything(days: int) -> str:
    """Two models by two consumers, every sixth hour."""
    return "".join(
        f"{MIDNIGHT + day * DAY + hour * HOUR:.0f},openai,{model},{consumer},"
        f"{100 + day},{40},{2 + day % 2},{0.25}\n"
        for day in range(days)
        for hour in range(0, 24, 6)
        for model, consumer in (("gpt-5", "batch-1"), ("o3", "web"))
    )


SCOPED_COLUMNS = "model,consumer,tokens,output_tokens,requests,cost_usd"


def test_budgets_of_every_unit_and_scope_are_replayed(
    backtest: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "predictions.csv", tmp_path / "report.html"
    options = ("--every", "1h", "--output", str(output), "--report", str(report))
    budgets = SCOPED.replace("output_tokens", "output")
    assert backtest(everything(6), budgets, *options, columns=SCOPED_COLUMNS) == 0
    with output.open() as file:
        written = list(csv.DictReader(file))
    assert list(written[0])[-4:] == ["exhausted", "unit", "model", "consumer"]
    last = {
        (row["unit"], row["period"], row["model"], row["consumer"]): row
        for row in written
        if float(row["timestamp"]) == MIDNIGHT + 5 * DAY - HOUR
    }
    assert {key: row["used_tokens"] for key, row in last.items()} == {
        ("requests", "day", "gpt-5", ""): "8",
        ("requests", "day", "o3", ""): "8",
        ("usd", "day", "", ""): "2",
        ("tokens", "12h", "", "batch-*"): "208",
        ("tokens", "day", "gpt-5*", ""): f"{4 * (104 + 40)}",
    }
    assert last["usd", "day", "", ""]["budget_tokens"] == "1.5"
    assert last["usd", "day", "", ""]["exhausted"] == "1"
    assert last["requests", "day", "o3", ""]["exhausted"] == "0"
    shown = capsys.readouterr().out
    enough_rows = [line.split() for line in shown.splitlines() if line.startswith("openai")]
    assert ["openai", "day", "$1.50", "5", "0%", "$2.01"] in enough_rows
    assert ["openai,", "o3", "day", "9", "requests", "5", "60%", "13", "requests"] in enough_rows
    assert "<td>openai, gpt-5*</td><td>430</td>" in report.read_text()
    assert "<td>openai</td><td>$1.50</td>" in report.read_text()


def test_a_file_with_the_least_columns_answers_for_what_it_tells(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = SCOPED.replace("output_tokens", "output") + "    - 430\n"
    assert backtest(sixes(4), budgets, "--every", "1h") == 0
    shown = capsys.readouterr()
    for lack, budget in (
        ("no requests", "openai 9 requests per day"),
        ("no cost, and there is no price for what was used", "openai 1.50 USD per day"),
        ("no consumers", "openai 900 per 12h for batch-*"),
        ("no models", "openai 430 per day for gpt-5*"),
    ):
        assert re.search(
            f"left out, .*usage.csv tells {lack}: {re.escape(budget)}$", shown.err, re.M
        )
    assert shown.out.startswith("day: 1 budgets")


def test_a_file_that_tells_nothing_that_budgets_count_is_an_error(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = "budgets: {openai: {requests: 9}}\n"
    assert backtest(sixes(4), budgets) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("usage.csv: tells no requests, for openai 9 requests per day")


def test_usage_without_a_price_is_named(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = """budgets: {openai: {usd: 1, period: day}}
prices: {gpt-5: {input: 1, output: 2}}
"""
    usage = f"{MIDNIGHT:.0f},openai,gpt-5,1000000\n{MIDNIGHT + 1:.0f},openai,o3,5\n"
    assert backtest(usage, budgets, "--every", "1h", columns="model,input_tokens") == 0
    err = capsys.readouterr().err
    assert "count 0 USD, rows without a cost and a price: o3 (1)" in err


def test_a_pool_counts_what_its_providers_use(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = "budgets: {azure: {tokens: 900, providers: [azure-eu, azure-us]}}\n"
    assert backtest(sixes(4, "azure-eu") + sixes(4, "azure-us"), budgets, "--every", "1h") == 0
    shown = capsys.readouterr()
    assert "left out" not in shown.err
    [row] = [line for line in shown.out.splitlines() if line.startswith("azure")]
    assert row.split() == ["azure", "day", "900", "3", "67%", "945"]


def test_notes_of_a_chart_never_stand_in_each_other() -> None:
    plot = Plot("dense", (0, 1), (0, 1))
    for number in range(4):
        plot.moment(number / 100, "alert", "alert")
        plot.level(0.5, "budget", f"budget {number}M")
    plot.moment(0.52, "alert", "alert")
    plot.moment(0.53, "spent", "spent")
    assert plot.render().rindex("<line") < plot.render().index("note"), "a line would cross a note"
    boxes = plot.notes
    for index, (left, right, line) in enumerate(boxes):
        for begin, end, other in boxes[:index]:
            assert abs(line - other) >= 13 or left >= end or right <= begin
