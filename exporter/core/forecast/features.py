"""What the model is told about a series at a moment: ratios of past use, without units."""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast.history import Floats, Ints, Timeline

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

LAGS = 7
_DECAY = 0.8 ** np.arange(LAGS)
_LOOKBACKS = np.array([10 * MINUTE, 30 * MINUTE, *(HOUR * np.arange(1.0, 25.0))])
_COMPARED = np.array([1, 3, 6, 12, 24]) * HOUR
_RATES = np.array([0, 1, 2, 4, 7, 13, 25])
"""Which of the look-backs are offered as rates: 10 min, 30 min, 1 h, 3 h, 6 h, 12 h, 24 h."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Cases as the model sees them.

    Attributes:
        inputs: a row of features per case.
        scale: tokens by which use in the horizon is measured; 0 when nothing is known at all.
        days: days since the first use.
    """

    inputs: Floats
    scale: Floats
    days: Floats


def describe(timeline: Timeline, series: Ints, horizon: Floats, utc_offset: Floats) -> Situation:
    """Describe each series at the timeline's `now`, `horizon` seconds before the window's end."""
    now = timeline.now
    age = np.maximum(now - timeline.since[series], 0.0)
    days = age / DAY
    rows = series[:, None]

    # A horizon beyond a day is compared with stretches as many whole days back as it is long.
    period = DAY * np.maximum(np.ceil(horizon / DAY - 1e-9), 1.0)
    lags = np.arange(1, LAGS + 1)
    back = now - period[:, None] * lags
    known = age[:, None] >= period[:, None] * lags - HOUR
    at_back = timeline.total(rows, back)
    ahead = timeline.total(rows, np.minimum(back + horizon[:, None], now)) - at_back
    weekly_back = now - 7 * DAY * np.ceil(np.maximum(horizon / (7 * DAY), 1 / 7) - 1e-9)
    weekly_known = age >= now - weekly_back - HOUR
    weeks_used = timeline.total(series, np.minimum(weekly_back + horizon, now)) - timeline.total(
        series, weekly_back
    )

    at_now = timeline.total(series, np.full(series.shape, now))
    behind = at_now[:, None] - timeline.total(rows, now - _LOOKBACKS[None, :])
    longer = np.minimum(age, 3 * DAY), np.minimum(age, 7 * DAY)
    three, seven = (
        (at_now - timeline.total(series, now - span)) / np.maximum(span, HOUR) for span in longer
    )
    ever = at_now / np.maximum(age, HOUR)
    level = np.where(seven > 0, 0.98 * seven + 0.02 * ever, ever)

    weight = known * _DECAY
    weights = weight.sum(axis=1)
    usual = (weight * ahead).sum(axis=1) / np.maximum(weights, 1e-9)
    flat = level * horizon
    scale = np.where(weights > 0, 0.7 * usual + 0.3 * flat, flat)
    safe = np.where(scale > 0, scale, 1.0)

    def ratio(value: Floats, reference: Floats, floor: Floats) -> Floats:
        return np.clip(np.log((value + floor) / (reference + floor)), -6.0, 6.0)

    floor = 3e-3 * safe
    hours = horizon / HOUR
    angle = 2 * np.pi * ((now + utc_offset) % DAY) / DAY
    columns: list[Floats] = [
        np.log(hours / 24),
        np.minimum(hours / 24, 2.0),
        np.sin(angle),
        np.cos(angle),
        np.sin(2 * angle),
        np.cos(2 * angle),
        np.log1p(np.minimum(days, 13.0)),
        np.minimum(days, 1.0),
        np.minimum(days / 7, 1.0),
        (scale > 0).astype(np.float64),
        weekly_known.astype(np.float64),
        ratio(flat, scale, floor),
        np.where(weekly_known, ratio(weeks_used, scale, floor), 0.0),
        ratio(three * horizon, scale, floor),
        ratio(ever * horizon, scale, floor),
        np.where(weights > 0, ratio(usual, scale, floor), 0.0),
    ]
    past = np.where(known, ratio(ahead, scale[:, None], floor[:, None]), 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    mean = past.sum(axis=1) / count
    spread = np.sqrt((known * (past - mean[:, None]) ** 2).sum(axis=1) / count)
    columns += [mean, spread, past.min(axis=1), past.max(axis=1)]
    columns += [(known & (ahead <= 0)).sum(axis=1) / count]
    columns += [*past.T, *known.astype(np.float64).T]

    # Rates of the last minutes, hours and day, as if they lasted.
    lasting = behind[:, _RATES] / _LOOKBACKS[_RATES] * horizon[:, None]
    columns += [*ratio(lasting, scale[:, None], floor[:, None]).T]

    # The last hours against the same hours of earlier days, and since the last period began.
    compared = np.broadcast_to(_COMPARED, (series.size, _COMPARED.size))
    since_begin = np.maximum(period - horizon, 10 * MINUTE)[:, None]
    compared = np.concatenate([compared, since_begin], axis=1)
    lately = at_now[:, None] - timeline.total(rows, now - compared)
    earlier = at_back[:, :, None] - timeline.total(
        rows[:, :, None], back[:, :, None] - compared[:, None, :]
    )
    mask = known & (age[:, None] >= period[:, None] * lags + 6 * HOUR)
    mask_weight = mask * _DECAY
    mask_weights = np.maximum(mask_weight.sum(axis=1), 1e-9)
    typical = (mask_weight[:, :, None] * earlier).sum(axis=1) / mask_weights[:, None]
    small = 3e-3 * (level[:, None] * compared) + (level[:, None] <= 0)
    any_earlier = mask[:, :1]
    columns += [*np.where(any_earlier, ratio(lately, typical, small), 0.0).T]
    yesterday = np.where(mask[:, :1], ratio(lately, earlier[:, 0], small), 0.0)
    columns += [*yesterday.T]
    last_week = np.where(mask[:, 6:7], ratio(lately, earlier[:, 6], small), 0.0)
    columns += [*last_week.T]
    # How the stretch ahead went after the day before it, then and on average.
    share = horizon / DAY
    day_before = earlier[:, :, 4]
    columns += [
        np.where(mask[:, d], ratio(ahead[:, d], day_before[:, d] * share, floor), 0.0)
        for d in (0, 6)
    ]
    columns += [np.where(mask[:, 0], ratio(usual, typical[:, 4] * share, floor), 0.0)]
    day_spread = ratio(day_before, typical[:, 4:5], small[:, 4:5]) * mask
    columns += [np.sqrt((day_spread**2).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))]

    # Burstiness of the last day's hours, and idleness.
    hourly = np.diff(behind[:, 2:], axis=1, prepend=0.0)
    lived = np.arange(24)[None, :] * HOUR < np.maximum(age, HOUR)[:, None]
    alive = lived.sum(axis=1)
    average = hourly.sum(axis=1) / alive
    deviation = np.sqrt((lived * (hourly - average[:, None]) ** 2).sum(axis=1) / alive)
    active = hourly > 0
    idle = np.where(active.any(axis=1), active.argmax(axis=1), 24)
    columns += [
        deviation / np.maximum(average, 1e-9 * safe) / 4,
        (lived & ~active).sum(axis=1) / alive,
        (~active[:, :6]).sum(axis=1) / 6,
        np.log1p(idle),
        (behind[:, 0] > 0).astype(np.float64),
        (behind[:, 1] > 0).astype(np.float64),
    ]
    inputs = np.stack(columns, axis=1)
    inputs[scale <= 0, 10:] = 0.0
    return Situation(inputs, scale, days)
