"""What a source of a service reports, and the wait for a source that says more.

A program that ends sends its metrics, its spans and its logs within a moment, in any order, and a
service that is heard for the first time may be about to report in a better way. So the first
reports of a source that is not the best are held for `HOLD` seconds. They are durable meanwhile:
documents have them.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from exporter.core.usage import Usage
from exporter.intake.otlp_ranks import Source
from exporter.intake.otlp_sources import Decision, Sources

HOLD = 10.0
"""Seconds: batches of spans leave every 5 s unless configured otherwise."""

MAX_HELD = 20_000
"""Reports held at once; more count without a wait."""

NOTE = "otlp/held"
"""Prefix of the documents with what is held. There are up to 256 of them, so that a push need not
write down all that is."""


class Report(msgspec.Struct, frozen=True):
    """Usage as one source of a service reports it.

    Attributes:
        form: path of the format it came in.
        services: what has one source at a time: see `otlp_ranks.keys`.
        source: which of its sources this is.
        usage: of one call with its id, or what a counter says, with neither id nor stream.
        end: Unix seconds, in the reporter's time, that it reaches to.
        start: the same, from which a counter says it; of a cumulative one 0 when unknown.
        counter: identity of the counter; empty for a call.
        cumulative: whether the counter says all since `start`, rather than what it rose by.
        held: Unix seconds, in ours, since which it is held.
    """

    form: str
    services: tuple[str, ...]
    source: Source
    usage: Usage
    end: float
    start: float = 0.0
    counter: str = ""
    cumulative: bool = False
    held: float = 0.0

    def judged(self, turn: Decision) -> Usage | str:
        """What counts of it, or why nothing does."""
        if turn.reason:
            return turn.reason
        if not self.counter:
            return turn.before if self.end <= turn.since else self.usage
        began_before = self.start < turn.since
        if not self.cumulative:
            if began_before:
                return turn.before
            return replace(self.usage, id=f"{self.counter}/{self.end!r}")
        if began_before:
            # Another source counted up to the cut. As a stream that began at an unknown time it
            # is remembered first, and counts from there.
            return replace(self.usage, stream=f"{self.counter}@{turn.since!r}")
        return replace(self.usage, stream=self.counter, started=self.start)


class Settled(NamedTuple):
    """What became of a report that was held."""

    report: Report
    said: Usage | str


_decoder = msgspec.json.Decoder(list[Report])


class Reports:
    """Takes reports, at once or after a wait.

    Not for use by several threads at once.

    Attributes:
        sources: decides which source counts.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._held: dict[tuple[tuple[str, ...], str, float], Report] = {}
        self._changed: set[str] = set()
        self._followed: dict[str, bytes] = {}
        self._written: dict[str, bytes] = {}

    @property
    def waiting(self) -> bool:
        """Whether anything is held."""
        return bool(self._held)

    def counted(self, report: Report, now: float, *, alone: bool) -> Usage | str | None:
        """What counts of a report, or why nothing does; None while it is held.

        `alone` is for a reporter that is known to have no other source.
        """
        sources = self.sources
        if (
            not alone
            and len(self._held) < MAX_HELD
            and sources.may_be_bettered(report.services, report.source)
        ):
            self._hold(replace(report, held=now))
            return None
        return report.judged(sources.decide(report.services, report.source, report.end, now))

    def settle(self, now: float) -> list[Settled]:
        """Take out what was held long enough, the best sources first."""
        due = [one for one in self._held.values() if not 0 <= now - one.held < HOLD]
        if not due:
            return []
        for one in due:
            del self._held[_identity(one)]
            self._changed.add(_document(one))
        rank = self.sources.rank
        due.sort(key=lambda one: (-rank(one.source), one.end))
        return [
            Settled(one, one.judged(self.sources.decide(one.services, one.source, one.end, now)))
            for one in due
        ]

    def put_back(self, settled: list[Settled]) -> None:
        """Hold again what could not be stored."""
        for one in settled:
            self._hold(one.report)

    def documents(self) -> dict[str, bytes]:
        """The documents that changed since this was last asked, those of the sources included."""
        found = self.sources.documents()
        if self._changed:
            held: dict[str, list[Report]] = {document: [] for document in self._changed}
            for report in self._held.values():
                if (document := _document(report)) in held:
                    held[document].append(report)
            written = {document: msgspec.json.encode(some) for document, some in held.items()}
            self._written |= written
            self._changed.clear()
            found |= written
        return found

    def follow(self, documents: Mapping[str, bytes]) -> None:
        """Take up what was stored: hold what others do, or this process did before it started
        anew. What two of them count has one identity.

        Raises:
            msgspec.ValidationError: one is not what `documents` makes.
        """
        self.sources.follow(documents)
        for document, body in documents.items():
            if not document.startswith(NOTE) or self._followed.get(document) is body:
                continue
            self._followed[document] = body
            if body != self._written.get(document):
                for report in _decoder.decode(body):
                    self._held.setdefault(_identity(report), report)

    def _hold(self, report: Report) -> None:
        self._held[_identity(report)] = report
        self._changed.add(_document(report))


def _identity(report: Report) -> tuple[tuple[str, ...], str, float]:
    return report.services, report.counter or report.usage.id, report.end


def _document(report: Report) -> str:
    """The document that a report is in."""
    service = report.services[-1].encode(errors="surrogatepass")
    return f"{NOTE}/{blake2b(service, digest_size=1).hexdigest()}"
