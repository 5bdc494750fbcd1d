"""Where pushes are taken in: a body in, an outcome once it is durable."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from exporter.core.signal import Signal
from exporter.intake import native
from exporter.intake.batching import Batcher, check_label, check_time, request_key
from exporter.intake.format import Context, Format, Push
from exporter.intake.formats import FORMATS
from exporter.intake.naming import Naming
from exporter.intake.otlp_sources import Sources
from exporter.intake.reading import MalformedBody, Reading, Rejection, check_items
from exporter.service import Service
from exporter.storage.contract import Answer, Batch, Committed, StorageError
from exporter.workers import Kind

MAX_KEY = 256
"""Characters of an `Idempotency-Key`."""


MAX_INLINE = 64 * 1024
"""Bytes of a push in the native format that are read without leaving the event loop."""


class Status(Enum):
    """What became of a push.

    Attributes:
        STORED: it is durable.
        MALFORMED: nothing in it could be used.
        OVERLOADED: too much waits to be stored; to be sent again.
        UNAVAILABLE: it could not be stored; to be sent again.
    """

    STORED = auto()
    MALFORMED = auto()
    OVERLOADED = auto()
    UNAVAILABLE = auto()


class Outcome(NamedTuple):
    """What became of a push, and how much of it.

    Attributes:
        status: see `Status`.
        answer: with `STORED` and, where there were items, with `MALFORMED`.
        error: what is wrong with the request as a whole, or with the exporter.
    """

    status: Status
    answer: Answer | None = None
    error: str = ""


ACCEPTED_ONE = Outcome(Status.STORED, Answer(1))
"""What becomes of nearly every single push: always this very object."""

OVERLOADED = Outcome(Status.OVERLOADED, error="too many requests are waiting to be stored")
UNAVAILABLE = Outcome(Status.UNAVAILABLE, error="cannot store right now")

Send = Callable[[Outcome], None]


class _Prepared(NamedTuple):
    """A push that is read and ready to be recorded."""

    batch: Batch
    signals: Sequence[Signal]
    uncharged: Mapping[str, int]


class Ingest:
    """Reads pushes and records them. Built anew for every configuration.

    Attributes:
        naming: which name a provider shows under.
    """

    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock
        config = service.config
        self._limits = config.limits
        self._retention = config.retention
        self.naming = Naming(config.aliases, config.rules, config.budgets)
        self._placed: dict[tuple[str, str], tuple[str, str]] = {}
        self._sources = Sources(config.otlp_prefer.value)
        self._reading = asyncio.Lock()
        service.expect(form.source for form in FORMATS)

    def batcher(self, now: float) -> Batcher:
        """What builds the batches of a moment."""
        return Batcher(
            self._service.place, now, self._retention, self._limits.label_length, self._placed
        )

    async def push(self, form: Format, push: Push) -> Outcome:
        """Take in a push of any format."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def send(outcome: Outcome) -> None:
            if not future.done():  # nobody may want it any more
                future.set_result(outcome)

        if form is native.FORMAT and len(push.body) <= MAX_INLINE:
            self.usage(push.body, push.key, send)
        elif self._service.overloaded:
            return OVERLOADED
        else:
            try:
                prepared = await self._read_aside(form, push)
            except MalformedBody as error:
                return self._malformed(form.source, error)
            self._record(form.source, prepared, send)
        return await future

    async def _read_aside(self, form: Format, push: Push) -> _Prepared:
        """Read a push in a thread: a batch of most formats takes tens of milliseconds. One at a
        time: together they are no faster, and a body takes many times its size meanwhile."""
        async with self._reading:
            self._sources.follow(self._service.notes)
            workers = self._service.workers
            return await workers.run(Kind.INTAKE, self._prepare, form, push, self._clock())

    def usage(self, body: bytes, key: str, send: Send) -> None:
        """Take in a small push of the native format, without a task and a thread for it."""
        if self._service.overloaded:
            send(OVERLOADED)
            return
        form, limit = native.FORMAT, self._limits.events_per_request
        try:
            rename, identity = self.naming.of_model, _identity(form, key)
            batch = native.read(body, rename, self.batcher(self._clock()), identity, limit)
        except MalformedBody as error:
            send(self._malformed(form.source, error))
            return
        self._record(form.source, _Prepared(batch, (), {}), send)

    def record_plain(self, lines: bytes, count: int, send: Send) -> bool:
        """Take in `count` lines of native events, all of them in order and without an id; False,
        and nothing is done, when they are not."""
        if self._service.overloaded:
            return False
        batch = native.read_plain(lines, self.naming.of_model, self.batcher(self._clock()))
        if batch is None or batch.events != count:
            return False
        self._record(native.FORMAT.source, _Prepared(batch, (), {}), send)
        return True

    def _prepare(self, form: Format, push: Push, now: float) -> _Prepared:
        batcher, key = self.batcher(now), _identity(form, push.key)
        most = self._limits.events_per_request
        context = Context(now, self.naming, most, batcher, self._sources, key)
        try:
            found = form.read(push, context)
        except RecursionError as error:
            raise MalformedBody("body: expected JSON nested less deeply") from error
        if found.batch is not None:
            return _Prepared(found.batch, (), found.uncharged)
        check_items(len(found.usages) + len(found.signals) + len(found.rejected), most)
        rejected = list(found.rejected)
        signals = self._signals(found, rejected, now)
        batch = batcher.batch(list(enumerate(found.usages)), rejected, key)
        batch.events += len(signals)
        batch.documents = self._sources.documents()
        return _Prepared(batch, signals, found.uncharged)

    def _signals(self, found: Reading, rejected: list[Rejection], now: float) -> list[Signal]:
        """The signals that can be taken in, under the names they count for."""
        signals = []
        for index, signal in enumerate(found.signals):
            try:
                check_label("provider", signal.provider, self._limits.label_length)
                check_label("model", signal.request_model, self._limits.label_length)
                check_time(signal.at, now, self._retention)
            except ValueError as error:
                rejected.append(Rejection(index, str(error)))
                continue
            name, _ = self._service.place(self.naming.name(signal.provider), "")
            signals.append(msgspec.structs.replace(signal, provider=name))
        return signals

    def _record(self, source: str, prepared: _Prepared, send: Send) -> None:
        now = self._clock()
        for signal in prepared.signals:
            self._service.signal(signal, now)

        def done(outcome: Committed | StorageError) -> None:
            send(UNAVAILABLE if isinstance(outcome, StorageError) else _outcome(outcome.answer))

        self._service.record(source, prepared.batch, done, prepared.uncharged)

    def _malformed(self, source: str, error: MalformedBody) -> Outcome:
        self._service.reject(source, 1, str(error))
        return Outcome(Status.MALFORMED, error=str(error))


def _identity(form: Format, key: str) -> bytes:
    return request_key(form.source, key) if key else b""


def _outcome(answer: Answer) -> Outcome:
    if answer.rejected == b"[]":
        one = answer.accepted == 1 and not answer.duplicates
        return ACCEPTED_ONE if one else Outcome(Status.STORED, answer)
    counted = answer.accepted + answer.duplicates + answer.baselines
    return Outcome(Status.STORED if counted else Status.MALFORMED, answer)
