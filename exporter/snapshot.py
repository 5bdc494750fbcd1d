"""The service at one moment, for whoever shows it."""

from collections.abc import Mapping

import msgspec

from exporter.core.provider_count import CountDrift
from exporter.core.quota_state import Reason, State
from exporter.core.scope import Scope
from exporter.core.scorer import Score
from exporter.core.series import Series
from exporter.core.signal import Refusal
from exporter.core.slots import Counts
from exporter.core.views import ProviderView
from exporter.storage.group_commit import CommitStats


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that is shown, as it was at one moment; nothing in it changes any more.

    Made on the event loop's thread, to be read in any.

    Attributes:
        at: Unix seconds of the moment.
        views: every provider, by name.
        totals: what every series counted since the store began.
        transitions: (scope, state, reason) -> times, since the start of the process.
        refusals: (provider, model, why) -> times, since the start of the process.
        events: (source, outcome) -> items, since the start of the process.
        uncharged: (source, reason) -> items rightly not counted, since the start of the process.
        unpriced: (provider, model) -> requests whose cost is not known, since the start.
        suspected: source -> calls that count and look like one of another reporter, since then.
        folded: `provider`, `model` or `consumer` -> usages folded into `other` by a cap.
        scores: how right the forecasts were, by period.
        count_drifts: by provider, how far its own count of a day is from ours.
        accounts_read: provider -> Unix seconds at which its account was last read.
        last_push: Unix seconds of the last usage that was stored, 0 when none was.
        storage_up: the store did what it was last asked.
        commits: how the store fared, since the start of the process.
        queues: work that waits or runs, by where.
        clock_jumps: times that the clock was set, `ahead` or `back`.
        clock_last_jump: seconds that it was last set by, 0 when it never was.
        clock_ahead: seconds by which it is ahead of the store's clock; None where that has none.
    """

    at: float
    views: Mapping[str, ProviderView]
    totals: Mapping[Series, Counts]
    transitions: Mapping[tuple[Scope, State, Reason], int]
    refusals: Mapping[tuple[str, str, Refusal], int]
    events: Mapping[tuple[str, str], int]
    uncharged: Mapping[tuple[str, str], int]
    unpriced: Mapping[tuple[str, str], int]
    suspected: Mapping[str, int]
    folded: Mapping[str, int]
    scores: Mapping[str, Score]
    count_drifts: Mapping[str, tuple[CountDrift, ...]]
    accounts_read: Mapping[str, float]
    last_push: float
    storage_up: bool
    commits: CommitStats
    queues: Mapping[str, int]
    clock_jumps: Mapping[str, int]
    clock_last_jump: float
    clock_ahead: float | None
