"""Replay daily budgets through the forecast and score it as warnings are judged.

A case is a series with a daily budget of a multiple of the mean of its first three days; a
decision is taken every ten minutes while the budget is not used up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from exporter.core.forecast import Cases, learn, predict

MULTIPLES = np.array([0.75, 1.0, 1.25, 1.5, 2.0])
STEP, DAY, DAYS = 600, 144, 14
ALERT_STEPS = 4
"""An alert needs the probability at this many decisions in a row: they span 30 minutes."""
AHEAD_STEPS = 3


@dataclass
class Replay:
    """Arrays over series, day, decision of the day and budget; steps within the day."""

    total: np.ndarray
    live: np.ndarray
    truth: np.ndarray
    exhausted_at: np.ndarray
    probability: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    expected_at: np.ndarray


def join(replays: list[Replay]) -> Replay:
    names = [field.name for field in fields(Replay)]
    return Replay(*(np.concatenate([getattr(r, name) for r in replays]) for name in names))


def replay(
    first: float, usage: np.ndarray, bins: np.ndarray, fitted: Mapping[str, np.ndarray]
) -> Replay:
    """Forecast every decision of every series from what was known then."""
    series, per_step = len(usage), bins.shape[1] // usage.shape[1]
    days = usage.reshape(series, DAYS, DAY)
    total = days.sum(axis=2)
    budget = total[:, :3].mean(axis=1)[:, None] * MULTIPLES
    counted = np.concatenate([np.zeros((series, DAYS, 1)), days.cumsum(axis=2)], axis=2)
    over = counted[..., None] >= budget[:, None, None, :]
    shape = (series, DAYS, DAY, MULTIPLES.size)
    answers = {name: np.empty(shape, np.float32) for name in ("p", "lower", "upper", "at")}
    flat = np.ones(series * MULTIPLES.size)
    profile = learn(bins[:, :0], first, first)
    for step in range(DAYS * DAY):
        day, decision = divmod(step, DAY)
        now, start = first + step * STEP, first + day * DAY * STEP
        if step % 6 == 0:
            profile = learn(bins[:, : step * per_step], first, now)
        settled = profile.cumulative.shape[1] - 1
        cases = Cases(
            series=np.repeat(np.arange(series), MULTIPLES.size),
            start=flat * start,
            end=flat * (start + DAY * STEP),
            used=np.repeat(counted[:, day, decision], MULTIPLES.size),
            budget=budget.ravel(),
            rolling=flat < 0,
            utc_offset=flat * 0,
        )
        answer = predict(profile, bins[:, settled : step * per_step], now, cases, fitted)
        expected = (answer.exhaustion_at - start) / STEP
        values = (answer.probability, answer.lower, answer.upper, expected)
        for name, value in zip(answers, values, strict=True):
            answers[name][:, day, decision] = value.reshape(series, MULTIPLES.size)
    return Replay(total, ~over[:, :, :-1], over[:, :, -1], over.argmax(axis=2), *answers.values())


def calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of equal width."""
    bins = np.minimum((probability * 10).astype(int), 9)
    gap = np.bincount(bins, probability.astype(float), 10) - np.bincount(bins, truth, 10)
    return float(np.abs(gap).sum() / len(truth))


def alerts(replay: Replay, threshold: float) -> dict[str, float]:
    """Judge the alerts of days 4 to 14."""
    hot = (replay.probability >= threshold) & replay.live
    lasting = hot.copy()
    for back in range(1, ALERT_STEPS):
        lasting[:, :, back:] &= hot[:, :, :-back]
        lasting[:, :, :back] = False
    lasting, truth = lasting[:, 3:], replay.truth[:, 3:]
    fired, lead = lasting.any(axis=2), replay.exhausted_at[:, 3:] - lasting.argmax(axis=2)
    caught = truth & fired & (lead >= AHEAD_STEPS)
    return {
        "recall": caught.sum() / truth.sum(),
        "false-alarm days": (fired & ~truth).sum() / (~truth).sum(),
        "precision": (fired & truth).sum() / fired.sum(),
        "lead h": float(np.median(lead[caught])) * STEP / 3600,
    }


def report(replay: Replay) -> None:
    """Print every score."""
    live, p = replay.live, replay.probability
    truth = np.broadcast_to(replay.truth[:, :, None, :], live.shape)
    squared = (p - truth) ** 2
    total = replay.total[:, :, None, None]
    inside = (total >= replay.lower * (1 - 1e-6)) & (total <= replay.upper * (1 + 1e-6))
    print(f"{len(live) * MULTIPLES.size} cases, {live.sum()} decisions")
    for name, days in (("warm", slice(3, None)), ("cold", slice(0, 1)), ("all", slice(None))):
        judged = live[:, days]
        error = calibration_error(p[:, days][judged], truth[:, days][judged])
        brier, held = squared[:, days][judged].mean(), inside[:, days][judged].mean()
        print(f"{name}: Brier {brier:.4f}, ECE {error:.4f}, 10-90 % interval holds {held:.3f}")
    for threshold in (0.8, 0.9):
        judged = ", ".join(f"{k} {v:.3f}" for k, v in alerts(replay, threshold).items())
        print(f"p >= {threshold}: {judged}")
    came = live & truth & np.isfinite(replay.expected_at)
    error = np.abs(replay.expected_at - replay.exhausted_at[:, :, None, :]) * STEP / 3600
    sure = came & (p >= 0.8)
    print(f"moment: median error {np.median(error[came]):.3f} h; {np.median(error[sure]):.3f} h")
    warm = np.where(live, squared, np.nan)[:, 3:]
    print(
        "Brier by hour:", np.round(np.nanmean(warm.reshape(*warm.shape[:2], 24, -1), (0, 1, 3)), 3)
    )
    print("Brier by multiple:", np.round(np.nanmean(warm, (0, 1, 2)), 3))
    spread = replay.total.std(axis=1) / replay.total.mean(axis=1)
    idle = (replay.total <= 0).any(axis=1)
    for name, kind in (
        ("days vary under 30 %", spread < 0.3),
        ("30 to 100 %", (spread >= 0.3) & (spread < 1)),
        ("over 100 %", spread >= 1),
        ("with idle days", idle),
    ):
        print(f"Brier where {name} ({kind.sum()} series): {np.nanmean(warm[kind]):.3f}")
