"""Where pushes are taken in: a body in, an outcome once it is durable."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from exporter.core.series import Series
from exporter.core.signal import Signal, Verdict
from exporter.intake import native, rejections
from exporter.intake.batching import Batcher, check_label, check_time, request_key
from exporter.intake.format import Client, Context, Format, Push
from exporter.intake.formats import FORMATS
from exporter.intake.naming import Naming
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.outcome import ACCEPTED_ONE, OVERLOADED, UNAVAILABLE, Outcome, Status
from exporter.intake.reading import MalformedBody, Reading, Rejection, check_items
from exporter.intake.rejections import RejectionLog
from exporter.intake.repeats import REPEATED, Repeats
from exporter.intake.settling import Settling
from exporter.recorder import Beside
from exporter.service import Service
from exporter.storage.contract import Batch, Committed, StorageError
from exporter.workers import Kind

MAX_KEY = 256
"""Characters of an `Idempotency-Key`."""


Send = Callable[[Outcome], None]


class _Prepared(NamedTuple):
    """A push that is read and ready to be recorded."""

    batch: Batch
    beside: Beside
    signals: Sequence[Signal] = ()
    items: int = 0


class Ingest:
    """Reads pushes and records them. Built anew for every configuration, with what the one `before`
    has learnt of who reports.

    Attributes:
        naming: which name a provider shows under.
        settling: records what was held for a better report.
    """

    def __init__(
        self, service: Service, clock: Callable[[], float], before: "Ingest | None" = None
    ) -> None:
        self._service = service
        self._clock = clock
        config = service.config
        self._limits = config.limits
        self._retention = config.retention
        self.naming = Naming(
            config.aliases, config.rules, config.budgets, config.consumer, config.models
        )
        self._placed: dict[tuple[str, ...], Series] = {}
        self._reports: Reports = before._reports if before else Reports(Sources())
        self._reports.sources.prefer(config.otlp_prefer.value)
        self._repeats: Repeats = before._repeats if before else Repeats()
        self._log = RejectionLog()
        self.settling = Settling(service, clock, self._reports, self._repeats, self._batcher)
        service.recorder.expect(form.source for form in FORMATS)

    async def push(self, form: Format, push: Push) -> Outcome:
        """Take in a push of any format."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def send(outcome: Outcome) -> None:
            if not future.done():  # nobody may want it any more
                future.set_result(outcome)

        if form is not native.FORMAT or not self.push_small(push, send):
            if self._service.overloaded:
                return OVERLOADED
            prepared = await self._service.workers.run(Kind.INTAKE, self._prepare, form, push)
            if isinstance(prepared, str):
                return self._malformed(form, push, prepared)
            if prepared.signals:
                return await self._record_signals(form, push, prepared)
            self._record(form, push, prepared, send)
        return await future

    def push_small(self, push: Push, send: Send) -> bool:
        """Take in a push of the native format without a task and a thread for it; False, and
        nothing is done, when reading it may take longer than a few milliseconds."""
        form = native.FORMAT
        if self._service.overloaded:
            send(OVERLOADED)
            return True
        batcher = self._batcher(self._clock(), push.consumer)
        key, limit = _identity(form, push), self._limits.events_per_request
        try:
            batch = native.read_small(push.body, self.naming.of_model, batcher, key, limit)
        except MalformedBody as error:
            send(self._malformed(form, push, str(error)))
            return True
        if batch is None:
            return False
        self._record(form, push, _Prepared(batch, Beside(unpriced=batcher.unpriced)), send)
        return True

    def push_plain(self, lines: Push, count: int, send: Send) -> bool:
        """Take in `count` lines of native events, all of them in order and without an id; False,
        and nothing is done, when they are not."""
        if self._service.overloaded:
            return False
        batcher = self._batcher(self._clock())
        batch = native.read_plain(lines.body, self.naming.of_model, batcher)
        if batch is None or batch.events != count:
            return False
        beside = Beside(unpriced=batcher.unpriced)
        self._record(native.FORMAT, lines, _Prepared(batch, beside), send)
        return True

    def reject(self, form: Format, client: Client, items: int, error: str) -> None:
        """Count items that could not be used, and say so in the log; `error` is the first one's."""
        self._service.recorder.reject(form.source, items)
        self._log.add(form.source, client.address, items, error, self._clock())

    def _malformed(self, form: Format, push: Push, error: str) -> Outcome:
        self.reject(form, push.client, 1, error)
        return Outcome(Status.MALFORMED, error=error)

    def _batcher(self, now: float, consumer: str = "") -> Batcher:
        return Batcher(
            self._service.place,
            now,
            self._retention,
            self._limits.label_length,
            self._placed,
            consumer,
            self._service.cost,
        )

    def _prepare(self, form: Format, push: Push) -> _Prepared | str:
        """Read a push, or say what is wrong with all of it; one at a time, in a thread.

        Not by raising: on its way an error would keep the frames it went through, and so all that
        was made of the body, for many requests at once.
        """
        try:
            return self._read(form, push)
        except MalformedBody as error:
            return str(error)

    def _read(self, form: Format, push: Push) -> _Prepared:
        now = self._clock()
        batcher, key = self._batcher(now, push.consumer), _identity(form, push)
        most = self._limits.events_per_request
        self._reports.follow(self._service.documents.notes)
        config = self._service.config
        context = Context(
            now,
            self.naming,
            most,
            batcher,
            self._reports,
            key,
            config.exhausted_from,
            config.webhooks,
        )
        try:
            found = form.read(push, context)
        except RecursionError as error:
            raise MalformedBody("body: expected JSON nested less deeply") from error
        if found.batch is not None:
            return _Prepared(found.batch, Beside(found.uncharged, batcher.unpriced))
        check_items(len(found.usages) + len(found.signals) + len(found.rejected), most)
        rejected = list(found.rejected)
        signals = self._signals(found, rejected, now)
        usages, suspected = self._repeats.counted(found.usages)
        if repeated := len(found.usages) - len(usages):
            found.uncharged[REPEATED] = repeated
        batch = batcher.batch(list(enumerate(usages)), rejected, key)
        batch.events += len(signals)
        batch.documents = self._reports.documents()
        beside = Beside(found.uncharged, batcher.unpriced, suspected)
        return _Prepared(batch, beside, signals, found.items)

    def _signals(self, found: Reading, rejected: list[Rejection], now: float) -> list[Signal]:
        """The signals that can be taken in, under the names they count for."""
        signals = []
        for index, signal in enumerate(found.signals):
            with rejections.item(rejected, index):
                check_label("provider", signal.provider, self._limits.label_length)
                check_label("model", signal.request_model, self._limits.label_length)
                check_label("consumer", signal.consumer, self._limits.label_length)
                check_time(signal.at, now, self._retention)
                silent = signal.verdict is Verdict.UNKNOWN and signal.refusal is None
                if silent and not signal.limits:
                    found.uncharged["says_nothing"] = found.uncharged.get("says_nothing", 0) + 1
                    continue  # it is no reason to know a provider of this name
                name = self.naming.name(signal.provider)
                series = self._service.place(name, signal.request_model)
                signals.append(
                    msgspec.structs.replace(
                        signal, provider=series.provider, request_model=series.model
                    )
                )
        return signals

    def _record(self, form: Format, push: Push, prepared: _Prepared, send: Send) -> None:
        batch, items = prepared.batch, prepared.items

        def done(outcome: Committed | StorageError) -> None:
            found = self._outcome(form, push, batch, outcome)
            send(found._replace(items=items) if items else found)

        self._service.recorder.record(form.source, batch, done, prepared.beside)

    async def _record_signals(self, form: Format, push: Push, prepared: _Prepared) -> Outcome:
        batch, beside, signals, _ = prepared
        try:
            committed = await self._service.recorder.record_signals(
                form.source, batch, signals, self._clock(), beside
            )
        except StorageError:
            return UNAVAILABLE
        return self._outcome(form, push, batch, committed)

    def _outcome(
        self, form: Format, push: Push, batch: Batch, outcome: Committed | StorageError
    ) -> Outcome:
        """What a client is told; what was rejected is logged."""
        if isinstance(outcome, StorageError):
            return UNAVAILABLE
        answer = outcome.answer
        if answer.rejected == b"[]":
            one = answer.accepted == 1 and not answer.duplicates
            return ACCEPTED_ONE if one else Outcome(Status.STORED, answer)
        if not answer.repeated:
            first, address = rejections.decode(batch.rejected).listed[0], push.client.address
            self._log.add(form.source, address, batch.rejected_count, first.error, self._clock())
        counted = answer.accepted + answer.duplicates + answer.baselines
        return Outcome(Status.STORED if counted else Status.MALFORMED, answer)


def _identity(form: Format, push: Push) -> bytes:
    return request_key(form.source, push.client.name, push.key) if push.key else b""
