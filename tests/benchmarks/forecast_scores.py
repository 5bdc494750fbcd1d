"""Score forecasts of every kind of window, as `README.md` beside the traces says.

    LLM_QUOTA_TRACES=folder python tests/benchmarks/forecast_scores.py [--set servegen|weekly|…]
        [--window day …] [--coefficients FILE …] [--every STEPS] [--rules]

Without `--coefficients` the shipped ones are scored. Several files are those of a cross-validation
in the order of the folds: `fit_forecast.py --fold N --output FILE`.
"""

import argparse
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from forecast_series import DAY, FOLDS, PER_STEP, STEP, Grid, scored, servegen, weekly

from exporter.core.forecast import BIN_SECONDS, Cases, Forecast, learn, linear, predict
from exporter.core.forecast import predict_linear as line_through
from exporter.core.forecast.history import Profile, Timeline
from exporter.core.forecast.network import FITTED
from exporter.core.forecast.past import STEPS, paths, retained

DAY_SECONDS, WEEK_SECONDS, MONDAY = 86400.0, 7 * 86400.0, 4 * 86400.0
MULTIPLES = (0.75, 1.0, 1.25, 1.5, 2.0)
QUANTILES = (0.5, 0.75, 0.9, 0.97)
WINDOWS = ("hour", "5h", "day", "week", "7d", "month")
ROLLING = {"5h": 5 * 3600.0, "7d": WEEK_SECONDS}
FEWEST_DAYS = {"week": 14, "7d": 14, "month": 28}
ALERT_SECONDS = 1800.0
Rule = Callable[[Profile, np.ndarray, float, Cases], Forecast]


def bounds(window: str, now: float) -> tuple[float, float]:
    """Return when the window that holds `now` begins and ends; UTC."""
    if window in ROLLING:
        return now - ROLLING[window], now + ROLLING[window]
    if window == "month":
        begin = np.datetime64(int(now), "s").astype("datetime64[M]")
        edges = [edge.astype("datetime64[s]").astype(float) for edge in (begin, begin + 1)]
        return edges[0], edges[1]
    length = {"hour": 3600.0, "day": DAY_SECONDS, "week": WEEK_SECONDS}[window]
    origin = MONDAY if window == "week" else 0.0
    begin = (now - origin) // length * length + origin
    return begin, begin + length


def budgets(window: str, bins: np.ndarray, born: int) -> np.ndarray:
    """Return the budgets of a series, known from its first days alone."""
    day = DAY * PER_STEP
    if window in ("hour", "5h"):
        size = 12 if window == "hour" else 60
        edges = np.concatenate([[0.0], bins[born : born + 3 * day].cumsum()])
        if window == "hour":
            sums = edges[size::size] - edges[:-size:size]
        else:
            sums = edges[size:] - edges[:-size]
        return np.append(np.quantile(sums, QUANTILES), 1.25 * sums.max())
    days, length = {"day": (3, 1), "month": (14, 30)}.get(window, (7, 7))
    return np.array(MULTIPLES) * length * bins[born : born + days * day].sum() / days


def replay(grid: Grid, window: str, every: int, rule: Rule) -> dict[str, np.ndarray]:
    """Take every decision; arrays over decisions of what was said and what came true."""
    bins = grid.bins
    edges = np.concatenate([np.zeros((len(bins), 1)), bins.cumsum(axis=1)], axis=1)
    born = np.array([int(np.flatnonzero(row > 0)[0]) for row in bins])
    amounts = np.array([budgets(window, row, at) for row, at in zip(bins, born, strict=True)])
    count, size = amounts.shape
    steps = bins.shape[1] // PER_STEP
    end_of_data = grid.first + steps * STEP
    since = grid.first + born * BIN_SECONDS
    length = ROLLING.get(window)
    peaks = None if length is None else _peaks(edges, int(length // BIN_SECONDS))
    profile = learn(bins[:, :0], grid.first, grid.first)
    flat = np.ones(count * size)
    last: tuple[Cases, Forecast] | None = None
    parts = []
    for step in range(0, steps, every):
        now = grid.first + step * STEP
        begin, end = bounds(window, now)
        if end > end_of_data:
            continue
        if step % 6 < every:
            profile = learn(bins[:, : step * PER_STEP], grid.first, now)
        at = step * PER_STEP
        left = max(0, round((begin - grid.first) / BIN_SECONDS))
        used = edges[:, at] - edges[:, left]
        spent = np.repeat(used, size) >= amounts.ravel()
        live = ~spent & np.repeat(born < at, size) & (amounts.ravel() > 0)
        if not live.any():
            continue
        cases = Cases(
            series=np.repeat(np.arange(count), size),
            start=flat * begin,
            end=flat * end,
            used=np.repeat(used, size),
            budget=np.maximum(amounts.ravel(), 1e-9),
            rolling=np.full(flat.shape, length is not None),
            utc_offset=flat * 0.0,
        )
        settled = profile.cumulative.shape[1] - 1
        asked = cases.take(live)
        said = rule(profile, bins[:, settled:at], now, asked)
        if last is not None and length is None:
            said = _held(last, asked, said, size)
        last = asked, said
        final_edge = round((end - grid.first) / BIN_SECONDS)
        if peaks is None:
            came = edges[:, final_edge] - edges[:, left]
            over = np.repeat(came, size) >= amounts.ravel()
            final = came
        else:
            over = np.repeat(peaks[:, at], size) >= amounts.ravel()
            final = edges[:, final_edge] - edges[:, at]
        series = asked.series
        total = final[series]
        within = (total >= said.lower * (1 - 1e-6)) & (total <= said.upper * (1 + 1e-6))
        parts.append(
            {
                "case": np.flatnonzero(live),
                "step": np.full(live.sum(), step),
                "age": (now - since[series]) / DAY_SECONDS,
                "truth": over[live],
                "p": said.probability,
                "held": within,
                "at": said.exhaustion_at,
                "end": asked.end,
            }
        )
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found["moment"] = _moments(grid, edges, amounts, found, window)
    return found


def _held(last: tuple[Cases, Forecast], asked: Cases, said: Forecast, size: int) -> Forecast:
    """Hold a forecast down where nothing was used since the one before."""
    before, earlier = last
    place = {
        (series, budget): number
        for number, (series, budget) in enumerate(
            zip(before.series.tolist(), before.budget.tolist(), strict=True)
        )
    }
    where = np.array(
        [
            place.get(one, -1)
            for one in zip(asked.series.tolist(), asked.budget.tolist(), strict=True)
        ]
    )
    same = where >= 0
    same &= (before.used[where] == asked.used) & (before.end[where] == asked.end)
    return said.held_down(earlier.take(where), same)


def _peaks(edges: np.ndarray, size: int) -> np.ndarray:
    """Return the largest use of a window that ends within a length from each edge."""
    gone = np.maximum(np.arange(edges.shape[1]) - size, 0)
    rolled = edges - edges[:, gone]
    peaks = np.full(edges.shape, -np.inf)
    # The largest of size values: powers of two cover any size.
    widest, span = rolled[:, 1:], 1
    while span * 2 <= size:
        widest = np.maximum(widest[:, :-span], widest[:, span:])
        span *= 2
    last = edges.shape[1] - 1 - size
    for edge in range(last + 1):
        both = np.maximum(widest[:, edge], widest[:, edge + size - span])
        peaks[:, edge] = both
    return peaks


def _moments(
    grid: Grid, edges: np.ndarray, amounts: np.ndarray, found: dict[str, np.ndarray], window: str
) -> np.ndarray:
    """Return when the budget was used up, of decisions in whose window it was; else nan."""
    size = amounts.shape[1]
    moments = np.full(found["p"].shape, np.nan)
    rows = np.flatnonzero(found["truth"] & (found["p"] > 0.5))
    for row in rows.tolist():
        series, which = divmod(int(found["case"][row]), size)
        at = int(found["step"][row]) * PER_STEP
        now = grid.first + at * BIN_SECONDS
        begin, end = bounds(window, now)
        last = int((end - grid.first) // BIN_SECONDS)
        path = edges[series, at : last + 1]
        if window in ROLLING:
            width = int(ROLLING[window] // BIN_SECONDS)
            path = path - edges[series, np.maximum(np.arange(at, last + 1) - width, 0)]
            path = np.maximum.accumulate(path)
        else:
            path = path - edges[series, max(0, int((begin - grid.first) // BIN_SECONDS))]
        reached = int(np.searchsorted(path, amounts[series, which]))
        moments[row] = now + reached * BIN_SECONDS
    return moments


def calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of equal width."""
    place = np.minimum((probability * 10).astype(int), 9)
    gap = np.bincount(place, probability.astype(float), 10) - np.bincount(place, truth, 10)
    return float(np.abs(gap).sum() / max(len(truth), 1))


def alerts(found: dict[str, np.ndarray], window: str, threshold: float, every: int) -> str:
    """Return recall, false alarms and lead of alerts from the fourth day on."""
    hold = max(1, round((600.0 if window == "hour" else ALERT_SECONDS) / STEP / every))
    length = ROLLING.get(window)
    caught = exhausted = false = good = 0
    leads = []
    order = np.lexsort((found["step"], found["case"]))
    case = found["case"][order]
    for part in np.split(order, np.flatnonzero(np.diff(case)) + 1):
        part = part[found["age"][part] >= 3]
        if not part.size:
            continue
        step, truth = found["step"][part], found["truth"][part]
        hot = found["p"][part] >= threshold
        lasting = hot.copy()
        for back in range(1, hold + 1):
            lasting[back:] &= hot[:-back] & (step[back:] - step[:-back] == back * every)
            lasting[:back] = False
        if length is None:
            groups = np.split(np.arange(part.size), np.flatnonzero(np.diff(found["end"][part])) + 1)
            for group in groups:
                fired = np.flatnonzero(lasting[group])
                if not truth[group[0]]:
                    good += 1
                    false += bool(fired.size)
                    continue
                exhausted += 1
                onset = step[group[-1]] + every
                if fired.size and (lead := onset - step[group[fired[0]]]) >= hold * every:
                    caught += 1
                    leads.append(lead * STEP / 3600)
            continue
        # An episode begins where live decisions, some of them warned of it, break off.
        ends = np.flatnonzero(np.diff(step, append=step[-1] + 2 * every + 1) > every)
        for end in ends.tolist():
            if not truth[end]:
                continue
            onset = step[end] + every
            first = np.searchsorted(step, onset - length / STEP)
            begin = np.flatnonzero(np.diff(step[first : end + 1]) > every)
            first = first + begin[-1] + 1 if begin.size else first
            exhausted += 1
            fired = np.flatnonzero(lasting[first : end + 1])
            if fired.size and (lead := onset - step[first + fired[0]]) >= hold * every:
                caught += 1
                leads.append(lead * STEP / 3600)
        day = step // DAY
        for group in np.split(np.arange(part.size), np.flatnonzero(np.diff(day)) + 1):
            if not truth[group].any():
                good += 1
                false += bool(lasting[group].any())
    lead = float(np.median(leads)) if leads else np.nan
    recall, rate = caught / max(exhausted, 1), false / max(good, 1)
    return f"p >= {threshold}: recall {recall:.3f}, false {rate:.3f}, lead {lead:.1f} h"


def line(name: str, found: dict[str, np.ndarray], chosen: np.ndarray) -> str:
    if not chosen.any():
        return f"  {name}: nothing to score"
    p, truth = found["p"][chosen], found["truth"][chosen].astype(float)
    base = truth.mean() * (1 - truth.mean())
    brier = ((p - truth) ** 2).mean()
    off = (found["at"] - found["moment"])[chosen] / 3600
    off = off[np.isfinite(off)]
    moment = f"moment off {np.median(np.abs(off)):.2f} h, late by {np.median(off):+.2f}"
    return (
        f"  {name:8} {chosen.sum():8d} base {base:.3f}  Brier {brier:.4f}  "
        f"ECE {calibration_error(p, truth):.4f}  80 % band holds {found['held'][chosen].mean():.3f}"
        f"  {moment if off.size else ''}"
    )


def report(found: dict[str, np.ndarray], window: str, every: int, sure: bool = False) -> None:
    """Print the scores of one window."""
    age = found["age"]
    print(line("warm", found, age >= 3))
    if window in FEWEST_DAYS:
        print(line(f"from d{FEWEST_DAYS[window]}", found, age >= FEWEST_DAYS[window]))
    print(line("cold", found, age < 1))
    for threshold in (0.9,) if sure else (0.5, 0.6, 0.7, 0.8, 0.9):
        print("   ", alerts(found, window, threshold, every), flush=True)


def rules() -> dict[str, Rule]:
    """The customary rules that a forecast is compared with."""

    def last_day(profile: Profile, recent: np.ndarray, now: float, cases: Cases) -> Forecast:
        timeline = Timeline(profile, recent, now)
        then = np.full(cases.used.shape, now - DAY_SECONDS)
        rate = timeline.total(cases.series, np.full(cases.used.shape, now))
        rate = (rate - timeline.total(cases.series, then)) / DAY_SECONDS
        return _at_rate(timeline, cases, rate)

    def straight(profile: Profile, recent: np.ndarray, now: float, cases: Cases) -> Forecast:
        if not cases.rolling.any():
            return linear(now, cases)
        return _at_rate(Timeline(profile, recent, now), cases, cases.used / (cases.end - now))

    def own_past(profile: Profile, recent: np.ndarray, now: float, cases: Cases) -> Forecast:
        """What followed on the same hours a day ago, or a week ago beyond a day."""
        timeline = Timeline(profile, recent, now)
        horizon = cases.end - now
        back = np.where(horizon > DAY_SECONDS, 7, 1) * DAY_SECONDS
        back = np.maximum(back, np.ceil(horizon / DAY_SECONDS) * DAY_SECONDS)
        begin = timeline.total(cases.series, now - back)
        ahead = timeline.total(cases.series, np.minimum(now - back + horizon, now)) - begin
        if not cases.rolling.any():
            return _sure(cases, cases.used + ahead)
        week_known = now - timeline.since[cases.series] >= 7 * DAY_SECONDS
        risen = paths(timeline, cases.series, horizon, cases.rolling)[:, :, -1]
        return _sure(cases, cases.used + np.where(week_known, risen[:, 6], risen[:, 0]))

    def through(span: float) -> Rule:
        return lambda profile, recent, now, cases: line_through(profile, recent, now, cases, span)

    return {
        "straight line": straight,
        "predict_linear 1h": through(3600.0),
        "predict_linear 6h": through(6 * 3600.0),
        "last 24 h": last_day,
        "own past": own_past,
    }


def _at_rate(timeline: Timeline, cases: Cases, rate: np.ndarray) -> Forecast:
    """Go on at a rate; a rolling window may be fullest on the way."""
    horizon = cases.end - timeline.now
    if not cases.rolling.any():
        return _sure(cases, cases.used + rate * horizon)
    kept = retained(timeline, cases.series, horizon[:, None] * (1 - STEPS))
    return _sure(cases, (kept + (rate * horizon)[:, None] * STEPS).max(axis=1))


def _sure(cases: Cases, ahead: np.ndarray) -> Forecast:
    p = (ahead >= cases.budget).astype(float)
    return Forecast(p, ahead, ahead, ahead, np.full(p.shape, np.nan))


def robbed(grid: Grid) -> Grid:
    """Return the same series, of which nine in ten begin one to nine days later."""
    bins = grid.bins.copy()
    for number, name in enumerate(grid.names):
        if number % 10:
            late = 1 + zlib.crc32(name.encode()) % 9
            bins[number, : late * DAY * PER_STEP] = 0.0
    used = bins.any(axis=1)
    return Grid(grid.first, grid.names, bins, grid.fold).where(used)


def served() -> Grid:
    """Return the clients that are scored, and eight sums of five in each fold."""
    grid = servegen(np.random.default_rng(7))
    rng = np.random.default_rng(1)
    chosen = scored(grid.usage)
    bins, names, folds = [*grid.bins[chosen]], [grid.names[c] for c in chosen], [*grid.fold[chosen]]
    for fold in range(FOLDS):
        members = [client for client in chosen.tolist() if grid.fold[client] == fold]
        for number in range(8):
            bins.append(grid.bins[rng.choice(members, 5, replace=False)].sum(axis=0))
            names.append(f"sum-{fold}-{number}")
            folds.append(fold)
    return Grid(grid.first, names, np.array(bins), np.array(folds))


def grids(name: str) -> list[Grid]:
    if name == "servegen":
        return [served()]
    if name == "late":
        return [robbed(served())]
    mentions, rides = weekly()
    return {"mentions": [mentions], "rides": [rides], "weekly": [mentions, rides]}[name]


def load(path: str) -> Mapping[str, np.ndarray]:
    return {name: array.astype(np.float32) for name, array in np.load(path).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", dest="sets")
    parser.add_argument("--window", action="append", choices=WINDOWS)
    parser.add_argument("--coefficients", action="append")
    parser.add_argument("--fold", type=int, action="append", help="only the series of these folds")
    parser.add_argument("--every", type=int, default=1, help="steps of ten minutes per decision")
    parser.add_argument("--rules", action="store_true", help="score the customary rules instead")
    options = parser.parse_args()
    fitted = [load(path) for path in options.coefficients or []] or [FITTED]
    for name in options.sets or ["servegen", "late", "mentions", "rides"]:
        found = grids(name)
        if options.fold:
            found = [grid.where(np.isin(grid.fold, options.fold)) for grid in found]
        windows = options.window or (["day"] if name == "late" else list(WINDOWS))
        for window in windows:
            if name in ("servegen", "late") and window == "month":
                continue
            if options.rules:
                for rule_name, rule in rules().items():
                    results = [replay(grid, window, options.every, rule) for grid in found]
                    print(f"{name}, {window}, {rule_name}:")
                    report(_joined(results), window, options.every, sure=True)
                continue
            results = []
            for grid in found:
                for fold in sorted(set(grid.fold.tolist())) if len(fitted) > 1 else [None]:
                    some = grid if fold is None else grid.where(grid.fold == fold)
                    arrays = fitted[0 if fold is None else fold]

                    def rule(profile, recent, now, cases, arrays=arrays):
                        return predict(profile, recent, now, cases, arrays)

                    results.append(replay(some, window, options.every, rule))
            print(f"{name}, {window}:")
            report(_joined(results), window, options.every)


def _joined(results: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    offset = 0
    for found in results:
        found["case"] = found["case"] + offset
        offset = int(found["case"].max()) + 1
    return {name: np.concatenate([found[name] for found in results]) for name in results[0]}


if __name__ == "__main__":
    main()
