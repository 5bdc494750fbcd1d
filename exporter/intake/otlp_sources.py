"""One source per service and model: the same tokens reach OTLP as metrics, spans, logs, or several.

For every service, provider and model one source counts, the best that is known to report it, as
`otlp_ranks` ranks them. Spans arrive within seconds, the first metrics after a minute; so whoever
comes first counts first, until a better source appears. Between the two lies a cut, in the
reporter's own time: the end of the first metrics that take over, or the end of the last reports of
what yields to spans or logs. On either side of it only one source counts:

- what ended before the cut counts from the source before, even if it arrives late;
- what began before the cut and reaches beyond it is not counted from the new source: a delta
  is dropped, a cumulative counter is only remembered and counts from there.

A service is learnt once: after that nothing is doubled and nothing lost, restarts of the
service included. While it is learnt, other instances of it may lose up to one export interval.
A source that has been silent for `SILENCE` yields to any other.

The operation is not told apart: the sources of one service name it differently, and where one has
fewer operations of a model than the other, it is the metrics.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from exporter.intake.otlp_nesting import Nesting
from exporter.intake.otlp_ranks import EACH_CALL, RISING, Keys, Prefer, Source, is_tool
from exporter.intake.otlp_twins import Twins

SILENCE = 3600.0
"""Seconds: far beyond any export interval in use, which are minutes."""

MAX_SERVICES = 10_000
"""Remembered at once; the longest silent are forgotten first, and learnt again."""

MAX_TOGETHER = 400
"""Stored in one document, of 256: ten times what is remembered at once."""

NOTE = "otlp/sources"
"""Prefix of the documents that say by which source each service is counted. There are up to 256 of
them, so that a push need not write down every service there is."""

SAMPLED = 0.9
"""Share of the tokens in metrics below which the spans of a service are a sample of its calls."""

MAX_COUNTERS = 1000
"""Counters of one service whose levels are remembered at once."""


class Decision(NamedTuple):
    """What to do with one reported item.

    Attributes:
        reason: why it is not counted, or empty.
        since: Unix seconds from which its source counts; 0 is always.
        before: why what lies before that is not counted.
    """

    reason: str = ""
    since: float = 0.0
    before: str = ""


class _Known(msgspec.Struct, omit_defaults=True):
    """Attributes:
    source: the one that counts.
    before: the one that counted until `since`, or empty.
    since: Unix seconds of the cut between them, in the reporter's time.
    until: Unix seconds, in the reporter's time, that the reports of `source` reach to.
    seen: Unix seconds, in ours, at which it was last heard.
    name: the key that stands for this one; empty: it stands for itself.
    sampled: spans are only a sample of the calls.
    """

    source: Source
    before: str = ""
    since: float = 0.0
    until: float = 0.0
    seen: float = 0.0
    name: str = ""
    sampled: bool = False


_decoder = msgspec.json.Decoder(dict[str, _Known])


class _Sums(msgspec.Struct):
    """What both sources of a service said since they were first heard beside each other.

    Attributes:
        spans: tokens in spans.
        metrics: library -> tokens in its metrics, less what each counter reported last: spans of
            that may still come.
        last: counter -> (its last level, what it rose by).
    """

    spans: int = 0
    metrics: Counter[str] = msgspec.field(default_factory=Counter)
    last: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)


class Sources:
    """Decides which source of a service counts; documents keep it over restarts.

    Not for use by several threads at once.

    Attributes:
        nesting: which spans are within or around others.
        twins: which spans tell of the call of another library's.
    """

    def __init__(self, prefer: Prefer = "complete") -> None:
        self.prefer(prefer)
        self._known: dict[str, _Known] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._changed: set[str] = set()
        self._followed: dict[str, bytes] = {}
        self._sums: dict[str, _Sums] = {}
        self._some_model: dict[str, str] = {}  # for reports that name none
        self.nesting = Nesting()
        self.twins = Twins()

    def prefer(self, prefer: Prefer) -> None:
        """Decide by another preference from now on."""
        self._rank = {source: rank for rank, source in enumerate(RISING[prefer])}

    def may_be_bettered(self, services: Keys, source: Source) -> bool:
        """Whether no source of these is known yet, and some would be better than this one."""
        if self._named(services):
            return False
        tool = is_tool(services) or source == "tool_metrics"  # whatever it is renamed to
        best: Source = "tool_events" if tool else "traces"
        return self.rank(source) < self.rank(best)

    def rank(self, source: Source) -> int:
        """The higher the better."""
        return self._rank[source]

    def counts(self, services: Keys) -> Source | None:
        """The source that counts; None before any was heard."""
        name = self._named(services)
        return self._known[name].source if name else None

    def decide(self, services: Keys, source: Source, end: float, now: float) -> Decision:
        """Decide on an item of `services` that covers the time up to `end`.

        Asking again about the same item gives the same answer.
        """
        name = self._named(services)
        known = self._known.get(name)
        if known is None:
            known = _Known(source)
        elif source != known.source:
            silent = now - known.seen > SILENCE
            if silent or (self._rank_of(source, known) > self._rank_of(known.source, known)):
                # Spans, logs, and whoever follows a silence, can start where the reports before
                # ended. Metrics take over with the interval they have just reported.
                cut = known.until if silent or source in EACH_CALL else end
                sampled = known.sampled and not silent
                known = _Known(source, known.source, cut, sampled=sampled)
        known = self._keep(services, name, known)

        if source == known.source:
            known.seen = max(known.seen, now)
            known.until = max(known.until, end)
            return Decision("", known.since, f"counted_from_{known.before}")
        if source == known.before and end <= known.since:
            return Decision()
        return Decision(f"counted_from_{known.source}")

    # -- whether spans are complete --

    def add_span(self, services: Keys, tokens: int) -> None:
        """Spans told of so many tokens more."""
        name = self._named(services)
        if name in self._sums:
            self._sums[name].spans += tokens

    def add_metric(
        self, services: Keys, library: str, counter: str, level: int, cumulative: bool
    ) -> None:
        """A counter of a library stands at, or without `cumulative` rose by, so many tokens.

        Where spans turn out to be a sample, metrics count from then on. Two libraries may count
        the same calls; so the one that counts most is compared.
        """
        name = self._named(services)
        if not name:
            return
        sums = self._sums.setdefault(name, _Sums())
        if len(sums.last) >= MAX_COUNTERS:
            sums.last.clear()  # to be learnt anew
        before = sums.last.get(counter)
        # Spans of the first interval may have come before anybody added them up.
        rise = 0 if before is None else max(0, level - before[0]) if cumulative else level
        sums.metrics[library] += before[1] if before else 0
        sums.last[counter] = (level, rise)
        known = self._known[name]
        if known.source == "traces" and sums.spans < SAMPLED * max(sums.metrics.values()):
            known.sampled = True
            self._touch(name)

    def _rank_of(self, source: Source, known: _Known) -> int:
        return -1 if source == "traces" and known.sampled else self._rank[source]

    # -- names --

    def _named(self, services: Keys) -> str:
        """The key that stands for these; empty when none is known."""
        for service in services:
            known = self._known.get(service)
            if known is not None:
                return known.name if known.name in self._known else service
        return self._some_model.get(services[0], "") if len(services) == 1 else ""

    def _keep(self, services: Keys, name: str, known: _Known) -> _Known:
        """Know `known` under all of its names but the last of several: that is of all models."""
        own = services[:-1] or services
        if not name or (name == services[-1] and name not in own):
            known = msgspec.structs.replace(known)  # what was known of all models, for each of them
            name = own[0]
        self._known.pop(name, None)  # the longest silent stand first
        self._known[name] = known
        self._touch(name)
        for other in own:
            if other != name and other not in self._known:
                self._known[other] = _Known(known.source, name=name)
                self._touch(other)
        if len(services) > 1:
            self._some_model[services[-1]] = name
        while len(self._known) > MAX_SERVICES:
            self._forget(next(iter(self._known)))
        return known

    # -- documents --

    def _touch(self, service: str) -> None:
        document = _document(service)
        self._names[document].add(service)
        self._changed.add(document)

    def _forget(self, service: str) -> None:
        del self._known[service]
        self._sums.pop(service, None)
        self._touch(service)
        self._names[_document(service)].discard(service)

    def documents(self) -> dict[str, bytes]:
        """The documents that changed since this was last asked, by name."""
        changed, self._changed = self._changed, set()
        return {
            document: msgspec.json.encode(
                {name: self._known[name] for name in sorted(self._names[document])}
            )
            for document in changed
        }

    def follow(self, documents: Mapping[str, bytes]) -> None:
        """Take up documents that were stored, by this process or by others; of a service that is
        known already, the one that was heard of later stands.

        Raises:
            msgspec.ValidationError: one is not what `documents` makes.
        """
        for document, body in documents.items():
            if document.startswith(NOTE) and self._followed.get(document) is not body:
                self._followed[document] = body
                for service, known in _decoder.decode(body).items():
                    held = self._known.get(service)
                    if held is None or held.seen < known.seen:
                        self._known[service] = known
                        self._names[_document(service)].add(service)


def _document(service: str) -> str:
    """The document that a service is in."""
    return f"{NOTE}/{blake2b(service.encode(errors='surrogatepass'), digest_size=1).hexdigest()}"


def merge(ours: bytes, theirs: bytes) -> bytes:
    """What two replicas know of the services in one document: of each what was heard later.

    What another version wrote that is not understood is replaced by ours.
    """
    try:
        known = _decoder.decode(theirs)
    except msgspec.MsgspecError:
        return ours
    for service, ours_of_it in _decoder.decode(ours).items():
        held = known.get(service)
        if held is None or held.seen <= ours_of_it.seen:
            known[service] = ours_of_it
    latest = sorted(known, key=lambda service: known[service].seen)[-MAX_TOGETHER:]
    return msgspec.json.encode({service: known[service] for service in sorted(latest)})
