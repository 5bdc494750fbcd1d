"""The forecaster's own record: what it said, held against what came true.

Once in each eighth of a window but the first, what is said while the budget is not spent is
remembered, and scored when the window is over (rolling: one length later, or once the budget is
reached). Windows that a provider reports are scored by what it reported last.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from exporter.core.budget import Quota
from exporter.core.measurement import Measurement

SHARES = 8
"""Into how many parts a window is divided, each with one chance to be remembered."""

BINS = 10
"""Equal ranges of probability for the calibration error."""

MEMORY = 1000
"""Windows of a period after which one counts about a third of what it counted when new."""

MEMORY_OF_QUOTA = 100
"""The same, of a single quota."""

RECORD_SECONDS = 100 * 86400.0
"""For so long a quota's record is kept after its last window."""

PATIENCE = 4 * 3600.0
"""Seconds unseen after which nothing is scored: fine history, which the shortest windows are
summed from, lasts little longer."""

GAP = 60.0
"""Seconds between two looks in which a rolling window hardly fills and empties again unseen."""

SAME_START = 300.0
"""Seconds by which the start of one window may seem to move: some providers tell their resets as
durations."""

UsedIn = Callable[[Quota, float], float | None]
"""What was used in the window of a quota that began at an instant; None where it is unknown."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good the forecasts of one period were.

    Attributes:
        brier: mean squared difference of probability and outcome: 0 is perfect, 1 always wrong.
        calibration_error: mean distance between what was said and how often it came true.
        windows: how many were scored since the record began.
    """

    brier: float
    calibration_error: float
    windows: int


class Tally(msgspec.Struct):
    """Sums over the scored statements of one period, older ones with less weight."""

    windows: int = 0
    squares: float = 0.0
    count: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)
    said: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)
    came: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)

    def add(self, probabilities: Iterable[float], outcome: bool) -> None:
        """Score what was said in one window."""
        fade = 1 - 1 / MEMORY
        self.windows += 1
        self.squares *= fade
        for sums in (self.count, self.said, self.came):
            sums[:] = [fade * each for each in sums]
        for probability in probabilities:
            place = min(int(probability * BINS), BINS - 1)
            self.squares += (probability - outcome) ** 2
            self.count[place] += 1
            self.said[place] += probability
            self.came[place] += outcome

    def score(self) -> Score:
        """Return the scores."""
        total = sum(self.count)
        off = sum(abs(said - came) for said, came in zip(self.said, self.came, strict=True))
        return Score(self.squares / total, off / total, self.windows)


class Record(msgspec.Struct):
    """Sums over the scored statements about one quota, older ones with less weight.

    Attributes:
        windows: how many were scored since the record began.
        count: statements.
        squares: squared differences of probability and outcome.
        said: probabilities.
        came: how many of the statements were about windows that did run out.
        at: Unix seconds of the last one.
    """

    windows: int = 0
    count: float = 0.0
    squares: float = 0.0
    said: float = 0.0
    came: float = 0.0
    at: float = 0.0

    def add(self, probabilities: Sequence[float], outcome: bool, now: float) -> None:
        """Score what was said in one window."""
        fade = 1 - 1 / MEMORY_OF_QUOTA
        self.windows += 1
        self.count = fade * self.count + len(probabilities)
        self.squares = fade * self.squares + sum((each - outcome) ** 2 for each in probabilities)
        self.said = fade * self.said + sum(probabilities)
        self.came = fade * self.came + outcome * len(probabilities)
        self.at = now


class Prediction(msgspec.Struct, array_like=True):
    """A probability, and the Unix time at which it will have come true or not."""

    probability: float
    due: float


class Open(msgspec.Struct):
    """What was said of a budget and is not scored yet.

    Attributes:
        amount: the budget, in what it counts.
        start: when the window began.
        length: seconds of the window.
        predicted_at: when the last chance to be remembered was taken.
        seen: when it was last looked at.
        said: what was said; in a calendar window all is due at its end.
    """

    amount: int = msgspec.field(name="tokens")
    start: float
    length: float
    predicted_at: float
    seen: float
    said: list[Prediction] = msgspec.field(default_factory=list)

    def holds(self, start: float) -> bool:
        """A window that starts then is this one."""
        return abs(start - self.start) <= SAME_START and start - self.start < self.length / 2

    def lapsed(self, now: float) -> bool:
        """Nobody looked for so long that what came true may be unknown."""
        return now - self.seen > PATIENCE


class _Document(msgspec.Struct):
    tallies: dict[str, Tally]
    waiting: dict[str, dict[str, Open]]
    records: dict[str, dict[str, Record]] = {}


_decoder = msgspec.json.Decoder(_Document)


class ForecastScorer:
    """Remembers forecasts and scores them. Not for concurrent use."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._waiting: dict[str, dict[str, Open]] = {}
        self._records: dict[str, dict[str, Record]] = {}

    @classmethod
    def load(cls, document: bytes) -> "ForecastScorer":
        """Take up a record that was dumped.

        Raises:
            msgspec.DecodeError: it is none.
        """
        held = _decoder.decode(document)
        record = cls()
        record._tallies, record._waiting = held.tallies, held.waiting
        record._records = held.records
        return record

    def dump(self, now: float) -> bytes:
        """Return the record as a JSON document, without what can no longer be scored."""
        for provider, periods in list(self._waiting.items()):
            for name in [name for name, held in periods.items() if held.lapsed(now)]:
                del periods[name]
            if not periods:
                del self._waiting[provider]
        for provider, records in list(self._records.items()):
            kept = {name: one for name, one in records.items() if now - one.at < RECORD_SECONDS}
            self._records[provider] = kept
            if not kept:
                del self._records[provider]
        return msgspec.json.encode(_Document(self._tallies, self._waiting, self._records))

    def scores(self) -> dict[str, Score]:
        """Return the scores of every period in which a window was scored."""
        return {name: tally.score() for name, tally in sorted(self._tallies.items())}

    def record(self, quota: Quota) -> Record | None:
        """Return the record of one quota; None before one of its windows was scored."""
        return self._records.get(quota.scope.provider, {}).get(quota.name)

    def observe(self, measurements: Iterable[Measurement], now: float, used_in: UsedIn) -> None:
        """Take in what is said now; score what has come true by now.

        The outcome of a window that starts over is asked of `used_in`, so that one which ended
        while nobody looked is scored too. Of rolling windows it is seen in the measurements: what
        was said before a gap longer than a share of the window is dropped. So is what was said of
        a budget that has changed, and of a reported window that its provider ended early.
        """
        for one in measurements:
            name = one.quota.name
            held = self._waiting.get(one.scope.provider, {}).get(name)
            if held is not None and (held.amount != one.budget.amount or held.lapsed(now)):
                held = None
            follow = self._rolling if one.budget.period.rolling else self._starting_over
            following = follow(one, held, now, used_in)
            following.seen = now
            if following is not held:
                quotas = self._waiting.setdefault(one.scope.provider, {})
                quotas[name] = following

    def _starting_over(
        self, one: Measurement, held: Open | None, now: float, used_in: UsedIn
    ) -> Open:
        start, end = one.window
        if held is not None and not held.holds(start):
            if held.said and now >= held.start + held.length - SAME_START:
                used = used_in(one.quota, held.start)
                if used is not None:
                    self._score(one, held.said, used >= one.budget.spent_at, now)
            held = None
        if held is None:
            held = Open(one.budget.amount, start, end - start, start, now)
        step = held.length / SHARES
        if (now - start) // step > (held.predicted_at - start) // step:
            held.predicted_at = now
            if not one.exceeded:
                held.said.append(Prediction(one.probability, end))
        return held

    def _rolling(self, one: Measurement, held: Open | None, now: float, _: UsedIn) -> Open:
        start, end = one.window
        length = end - start
        step = length / SHARES
        if held is None or now - held.seen > max(step, GAP):
            held = Open(one.budget.amount, start, length, now - step, now)
        if one.exceeded:
            self._score(one, held.said, True, now)
            held.said = []
            return held
        passed = [each for each in held.said if each.due <= now]
        self._score(one, passed, False, now)
        held.said = held.said[len(passed) :]
        if now - held.predicted_at >= step:
            held.predicted_at = now
            held.said.append(Prediction(one.probability, now + length))
        return held

    def _score(self, one: Measurement, said: list[Prediction], outcome: bool, now: float) -> None:
        if said:
            probabilities = [each.probability for each in said]
            tally = self._tallies.setdefault(one.budget.period.name, Tally())
            tally.add(probabilities, outcome)
            records = self._records.setdefault(one.scope.provider, {})
            records.setdefault(one.quota.name, Record()).add(probabilities, outcome, now)
