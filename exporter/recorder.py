"""Makes batches durable, and counts what became of their items."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from exporter.core.signal import Signal
from exporter.quota_states import QuotaStates
from exporter.storage.contract import Answer, Batch, Committed, StorageError
from exporter.storage.group_commit import GroupCommit

OUTCOMES = ("accepted", "duplicate", "rejected", "uncharged")

SIGNALS_AT_ONCE = 200  # in about a millisecond

Done = Callable[[Committed | StorageError], None]


class Beside(NamedTuple):
    """What is counted beside a batch, once it is durable.

    Attributes:
        uncharged: reason -> items that are rightly not counted.
        unpriced: (provider, model) -> requests whose cost is not known.
        suspected: calls that count and look like one of another reporter.
    """

    uncharged: Mapping[str, int] = MappingProxyType({})
    unpriced: Mapping[tuple[str, str], int] = MappingProxyType({})
    suspected: int = 0


_NOTHING = Beside()


class Recorder:
    """Records what is pushed. Runs on the event loop's thread.

    Attributes:
        events: (source, outcome) -> items, since the start of the process.
        uncharged: (source, reason) -> items rightly not counted, since the start of the process.
        unpriced: (provider, model) -> requests whose cost is not known, since the start of the
            process.
        suspected: source -> calls that count and look like one of another reporter, likewise.
    """

    def __init__(
        self, commits: GroupCommit, states: QuotaStates, touched: Callable[[str], None]
    ) -> None:
        """Record to `commits`; `touched` gets every provider that something was said about."""
        self.events: Counter[tuple[str, str]] = Counter()
        self.uncharged: Counter[tuple[str, str]] = Counter()
        self.unpriced: Counter[tuple[str, str]] = Counter()
        self.suspected: Counter[str] = Counter()
        self._commits = commits
        self._states = states
        self._touched = touched
        self._keyed = asyncio.Lock()

    def expect(self, sources: Iterable[str]) -> None:
        """Count items of these sources from now on: Prometheus misses the first increase of a
        counter that was not there before it."""
        for source in sources:
            self.suspected.setdefault(source, 0)
            for outcome in OUTCOMES:
                self.events.setdefault((source, outcome), 0)

    def record(self, source: str, batch: Batch, done: Done, beside: Beside = _NOTHING) -> None:
        """Store a batch of `source`; `done` gets the outcome once it is durable and counted."""

        def count(outcome: Committed | StorageError) -> None:
            if not isinstance(outcome, StorageError):
                self._count_items(source, batch, outcome.answer, beside)
            done(outcome)

        if self._states.changed:
            self._submit_documents(lambda outcome: None)
        self._commits.submit(batch, count)

    async def record_signals(
        self,
        source: str,
        batch: Batch,
        signals: Sequence[Signal],
        now: float,
        beside: Beside = _NOTHING,
    ) -> Committed:
        """Store a batch together with what providers said, which takes effect unless the batch
        repeats an earlier one.

        Raises:
            StorageError: it could not be stored.
        """
        states = self._states
        if not batch.key:
            await self._apply(signals, states, now)
            documents, states.changed = states.changed, {}
            batch.documents = {**documents, **batch.documents}
            return await self._recorded(source, batch, beside, documents)
        async with self._keyed:  # or a trial would not know what the one before it found
            trial = states.trial({signal.provider for signal in signals})
            await self._apply(signals, trial, now)
            batch.documents = {**trial.changed, **batch.documents}
            committed = await self._recorded(source, batch, beside)
            if not committed.answer.repeated:
                await self._apply(signals, states, now)
                changed = states.changed
                for name in [name for name in changed if changed[name] == trial.changed.get(name)]:
                    del changed[name]  # it has just been stored
            return committed

    async def _apply(self, signals: Sequence[Signal], states: QuotaStates, now: float) -> None:
        """Apply what providers said, a few milliseconds' worth at a time."""
        for count, signal in enumerate(signals, 1):
            self._touched(signal.provider)
            states.signal(signal, now)
            if count % SIGNALS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def reject(self, source: str, items: int) -> None:
        """Count items that could not be used."""
        self.events[source, "rejected"] += items

    async def save(self) -> None:
        """Make changed documents durable.

        Raises:
            StorageError: they could not be stored, and will be tried again.
        """
        if self._states.changed:
            await _outcome(self._submit_documents)

    async def _recorded(
        self,
        source: str,
        batch: Batch,
        beside: Beside,
        documents: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Committed:
        """Record a batch; `documents` in it are stored later if it cannot be now."""
        return await _outcome(
            lambda done: self.record(source, batch, self._keeping(documents, done), beside)
        )

    def _count_items(self, source: str, batch: Batch, answer: Answer, beside: Beside) -> None:
        events = self.events
        if answer.repeated:
            events[source, "duplicate"] += answer.accepted + answer.duplicates
            return
        events[source, "accepted"] += answer.accepted
        if answer.duplicates:
            events[source, "duplicate"] += answer.duplicates
        for key, requests in beside.unpriced.items():
            self.unpriced[key] += requests
        if beside.suspected:
            self.suspected[source] += beside.suspected
        if beside.uncharged or answer.baselines:
            starts = ("before_first_start", answer.baselines)
            for reason, items in (*beside.uncharged.items(), starts):
                if items:
                    events[source, "uncharged"] += items
                    self.uncharged[source, reason] += items
        if batch.rejected_count:
            self.reject(source, batch.rejected_count)

    def _submit_documents(self, then: Done) -> None:
        documents = self._states.changed.copy()
        self._states.changed.clear()

        self._commits.submit(Batch(documents=documents), self._keeping(documents, then))

    def _keeping(self, documents: Mapping[str, bytes], then: Done) -> Done:
        """Before `then`, put back what could not be stored, though nobody may wait any more."""

        def done(outcome: Committed | StorageError) -> None:
            if isinstance(outcome, StorageError):
                for name, body in documents.items():
                    self._states.changed.setdefault(name, body)
            then(outcome)

        return done


async def _outcome(submit: Callable[[Done], None]) -> Committed:
    """What becomes of what is submitted.

    Raises:
        StorageError: it could not be stored.
    """
    future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()

    def done(outcome: Committed | StorageError) -> None:
        if future.done():  # who waited was cancelled
            return
        if isinstance(outcome, StorageError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    submit(done)
    return await future
