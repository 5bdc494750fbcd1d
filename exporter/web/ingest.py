"""Where pushes enter: a body in, an answer out once it is durable.

Callbacks instead of coroutines, because tens of thousands of single pushes a second pass here.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from exporter.core.signal import Signal
from exporter.intake import native, otlp
from exporter.intake.batching import Batcher, check_label, check_time, request_key
from exporter.intake.naming import Naming
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_sources import Prefer, Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import MalformedBody, Reading, Rejection, check_items
from exporter.service import Service
from exporter.storage.contract import Answer, Batch, Committed, StorageError
from exporter.web.reply import ONE, OVERLOADED, RETRY_AFTER, Reply, Send, failure

MAX_KEY = 256
"""Characters of an `Idempotency-Key`."""

_GIVEN = re.compile(r", .*|(?<=unknown field) .*", re.DOTALL)
"""What an error says of the given value: that may be anything, somebody's prompt too."""

_REMEMBERED = 10_000  # names settled, before that memory starts anew
_MAX_REMEMBERED = 2048  # characters; longer names are no labels

log = logging.getLogger("exporter")


SOURCES = "otlp/sources"
"""The note that says by which source each service is counted."""


class Ingest:
    """Reads pushes, records them, answers them.

    Built anew for every configuration.
    """

    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock
        config = service.config
        self._limits = config.limits
        self._retention = config.retention
        self.naming = Naming(config.aliases, config.rules, config.budgets)
        self._names: dict[tuple[str, str], str] = {}
        self._placed: dict[tuple[str, str], tuple[str, str]] = {}
        self._sources = Sources(config.otlp_prefer.value)
        self._sources_note: bytes | None = None
        self._reading = asyncio.Lock()
        self._singles: list[tuple[bytes, Send]] = []

    def _rename(self, provider: str, model: str) -> str:
        name = self._names.get((provider, model))
        if name is None:
            name = self.naming.name(provider, {"model": model})
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            if len(provider) + len(model) <= _MAX_REMEMBERED:
                self._names[provider, model] = name
        return name

    def _batcher(self, now: float) -> Batcher:
        return Batcher(
            self._service.place, now, self._retention, self._limits.label_length, self._placed
        )

    def usage(self, body: bytes, key: str, send: Send) -> None:
        """`POST /v1/usage`."""
        now = self._clock()
        if self._service.overloaded:
            send(OVERLOADED)
            return
        try:
            batch = native.read(
                body,
                self._rename,
                self._batcher(now),
                _key("usage", key),
                self._limits.events_per_request,
            )
        except MalformedBody as error:
            self.refuse("usage", 1, str(error))
            send(failure(400, str(error)))
            return
        self._record("usage", batch, {}, _summary, send)

    def single(self, body: bytes, send: Send) -> None:
        """`POST /v1/usage` without an `Idempotency-Key`, most likely with one event.

        Events that arrive in the same turn of the loop are read and recorded together, at a
        fraction of the cost. Whatever is not simply accepted is read again by itself, so that
        each gets the answer it would have got alone.
        """
        if body[:1] == b"{" and body[-1:] == b"}" and b"\n" not in body:
            if not self._singles:
                asyncio.get_running_loop().call_soon(self._record_singles)
            self._singles.append((body, send))
        else:
            self.usage(body, "", send)

    def _record_singles(self) -> None:
        singles, self._singles = self._singles, []
        # Each begins with { and ends with }, so none can complete another: no object goes on with
        # a { after a }.
        batch = None
        if len(singles) > 1 and not self._service.overloaded:
            lines = b"\n".join([body for body, _ in singles])
            batch = native.read_plain(lines, self._rename, self._batcher(self._clock()))
        if batch is None or batch.events != len(singles):
            for body, send in singles:
                self.usage(body, "", send)
            return

        def send_all(reply: Reply) -> None:
            each = ONE if reply.status == 200 else reply
            for _, send in singles:
                send(each)

        self._record("usage", batch, {}, _summary, send_all)

    async def reading(
        self, source: str, read: Callable[[float, int], Reading], key: str, send: Send
    ) -> None:
        """Any other format of JSON: what `read` makes of it, given the present moment and how
        many items a request may have.

        Signals take effect at once, usage when it is durable.

        Raises:
            MalformedBody: nothing in the body can be used.
        """
        if self._service.overloaded:
            send(OVERLOADED)
            return
        # In a thread: a batch of these formats takes tens of milliseconds to read. One at a time:
        # together they are no faster, and a body takes many times its size while it is read.
        try:
            async with self._reading:
                most = self._limits.events_per_request
                found = await asyncio.to_thread(read, self._clock(), most)
        except RecursionError as error:
            raise MalformedBody("body: expected JSON nested less deeply") from error
        self._take(source, found, {}, key, _summary, send)

    async def telemetry(
        self, signal: Prefer, body: bytes, content_type: str, key: str, send: Send
    ) -> None:
        """OTLP metrics or traces, answered in the encoding they came in.

        Raises:
            MalformedBody: nothing in the body can be used.
        """
        read, answer_of = (
            (read_metrics, otlp.metrics_answer)
            if signal == "metrics"
            else (read_traces, otlp.traces_answer)
        )

        def finish(answer: Answer) -> Reply:
            rejected = msgspec.json.decode(answer.rejected, type=list[Rejection])
            return Reply(200, answer_of(content_type, rejected))

        def answered(reply: Reply) -> None:
            if reply.status != 200:
                error = msgspec.json.decode(reply.body)["error"]
                reply = reply._replace(body=otlp.error_answer(content_type, error))
            send(reply)

        if self._service.overloaded:
            answered(OVERLOADED)
            return
        async with self._reading:
            sources, now = self._known_sources(), self._clock()
            found = await asyncio.to_thread(read, body, content_type, self.naming, sources, now)
            note = msgspec.json.encode(sources.snapshot())
        self._take("otlp_" + signal, found, {SOURCES: note}, key, finish, answered)

    def _take(
        self,
        source: str,
        found: Reading,
        notes: dict[str, bytes],
        key: str,
        finish: Callable[[Answer], Reply],
        send: Send,
    ) -> None:
        items = len(found.usages) + len(found.signals) + len(found.rejected)
        check_items(items, self._limits.events_per_request)
        now = self._clock()
        rejected = list(found.rejected)
        taken = self._signals(found.signals, rejected, now)
        batch = self._batcher(now).batch(list(enumerate(found.usages)), rejected, _key(source, key))
        batch.events += taken
        batch.documents = notes
        self._record(source, batch, found.uncharged, finish, send)

    def _known_sources(self) -> Sources:
        """Who reports what, as another replica may have learnt since."""
        note = self._service.notes.get(SOURCES)
        if note is not None and note is not self._sources_note:
            self._sources.restore(msgspec.json.decode(note))
            self._sources_note = note
        return self._sources

    def _signals(self, signals: Sequence[Signal], rejected: list[Rejection], now: float) -> int:
        """Take in the signals that can be; how many those are."""
        taken = 0
        for index, signal in enumerate(signals):
            try:
                check_label("provider", signal.provider, self._limits.label_length)
                check_label("model", signal.request_model, self._limits.label_length)
                check_time(signal.at, now, self._retention)
            except ValueError as error:
                rejected.append(Rejection(index, str(error)))
                continue
            name, _ = self._service.place(self.naming.name(signal.provider), "")
            self._service.signal(msgspec.structs.replace(signal, provider=name), now)
            taken += 1
        return taken

    def _record(
        self,
        source: str,
        batch: Batch,
        uncharged: Mapping[str, int],
        finish: Callable[[Answer], Reply],
        send: Send,
    ) -> None:
        events = self._service.events

        def done(outcome: Committed | StorageError) -> None:
            if isinstance(outcome, StorageError):
                send(failure(503, "cannot store right now", RETRY_AFTER))
                return
            answer = outcome.answer
            if answer.repeated:
                events[source, "duplicate"] += answer.accepted + answer.duplicates
            else:
                events[source, "accepted"] += answer.accepted
                if answer.duplicates:
                    events[source, "duplicate"] += answer.duplicates
                for reason, items in (*uncharged.items(), ("before_first_start", answer.baselines)):
                    if items:
                        events[source, "uncharged"] += items
                        self._service.uncharged[source, reason] += items
                if batch.rejected_count:
                    self.refuse(source, batch.rejected_count, _first(batch))
            send(finish(answer))

        self._service.record(batch, done)

    def refuse(self, source: str, items: int, error: str) -> None:
        """Count rejected items, and say so in one line of the log."""
        self._service.events[source, "rejected"] += items
        fields = {"source": source, "items": items, "error": _GIVEN.sub("", error)}
        log.warning("push rejected", extra={"fields": fields})


def _key(route: str, key: str) -> bytes:
    return request_key(route, key) if key else b""


def _first(batch: Batch) -> str:
    error: str = msgspec.json.decode(batch.rejected)[0]["error"]
    return error


def _summary(answer: Answer) -> Reply:
    if answer.accepted == 1 and not answer.duplicates and answer.rejected == b"[]":
        return ONE
    counted = answer.accepted + answer.duplicates + answer.baselines
    status = 400 if answer.rejected != b"[]" and not counted else 200
    body = b'{"accepted":%d,"duplicates":%d,"rejected":%s}'
    return Reply(status, body % (answer.accepted, answer.duplicates, answer.rejected))
