"""One source per service: the same tokens reach OTLP as metrics, as spans, or as both.

For every service and provider one source counts, the best that is known to report it. Spans
arrive within seconds, the first metrics after a minute; so whoever comes first counts first,
until a better source appears. Between the two lies a cut, in the reporter's own time: the end
of the first metrics that take over from spans, or the end of the last reports of what yields
to spans. On either side of it only one source counts:

- what ended before the cut counts from the source before, even if it arrives late;
- what began before the cut and reaches beyond it is not counted from the new source: a delta
  is dropped, a cumulative counter is only remembered and counts from there.

A service is learnt once: after that nothing is doubled and nothing lost, restarts of the
service included. While it is learnt, other instances of it may lose up to one export interval.
A source that has been silent for `SILENCE` yields to any other.
"""

from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec

from exporter.intake.otlp_nesting import Nesting
from exporter.intake.otlp_twins import Twins

Source = Literal["traces", "metrics", "inference_metrics", "tool_metrics"]
"""Spans, `gen_ai.client.token.usage`, the newer inference counters, and the own metrics of
tools like Claude Code, which say more than what the tool reports in the general form."""

Prefer = Literal["metrics", "traces"]

SILENCE = 3600.0
"""Seconds: far beyond any export interval in use, which are minutes."""

MAX_SERVICES = 10_000
"""Remembered at once; the longest silent are forgotten first, and learnt again."""

NOTE = "otlp/sources"
"""Prefix of the documents that say by which source each service is counted. There are up to 256 of
them, so that a push need not write down every service there is."""

_TOOLS = frozenset({"gemini-cli", "claude-code"})
"""`service.name` of tools whose own metrics do not tell the provider that their others tell."""

_METRICS: tuple[Source, ...] = ("metrics", "inference_metrics", "tool_metrics")
_RISING: dict[Prefer, tuple[Source, ...]] = {
    "metrics": ("traces", *_METRICS),
    "traces": (*_METRICS, "traces"),
}


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


def key(service: str, provider: str) -> str:
    """What has one source at a time: services may report one provider by metrics, one by spans."""
    return service if service.rpartition("/")[2] in _TOOLS else f"{service} {provider}"


class _Known(msgspec.Struct):
    """Attributes:
    source: the one that counts.
    before: the one that counted until `since`, or empty.
    since: Unix seconds of the cut between them, in the reporter's time.
    until: Unix seconds, in the reporter's time, that the reports of `source` reach to.
    seen: Unix seconds, in ours, at which it was last heard.
    """

    source: Source
    before: str = ""
    since: float = 0.0
    until: float = 0.0
    seen: float = 0.0


_decoder = msgspec.json.Decoder(dict[str, _Known])


class Sources:
    """Decides which source of a service counts; documents keep it over restarts.

    Not for use by several threads at once.

    Attributes:
        nesting: which spans are within or around others.
        twins: which spans tell of the call of another library's.
    """

    def __init__(self, prefer: Prefer = "metrics") -> None:
        self._rank = {source: rank for rank, source in enumerate(_RISING[prefer])}
        self._known: dict[str, _Known] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._changed: set[str] = set()
        self._followed: dict[str, bytes] = {}
        self.nesting = Nesting()
        self.twins = Twins()

    def decide(self, service: str, source: Source, end: float, now: float) -> Decision:
        """Decide on an item of `service` (a `key`) that covers the time up to `end`.

        Asking again about the same item gives the same answer.
        """
        known = self._known.pop(service, None)
        if known is None:
            known = _Known(source)
        elif source != known.source:
            silent = now - known.seen > SILENCE
            if silent or self._rank[source] > self._rank[known.source]:
                # Spans, and whoever follows a silence, can start where the reports before
                # ended. Metrics take over with the interval they have just reported.
                cut = known.until if silent or source == "traces" else end
                known = _Known(source, known.source, cut)
        self._known[service] = known
        self._touch(service)
        if len(self._known) > MAX_SERVICES:
            self._forget(next(iter(self._known)))

        if source == known.source:
            known.seen = max(known.seen, now)
            known.until = max(known.until, end)
            return Decision("", known.since, f"counted_from_{known.before}")
        if source == known.before and end <= known.since:
            return Decision()
        return Decision(f"counted_from_{known.source}")

    def _touch(self, service: str) -> None:
        document = _document(service)
        self._names[document].add(service)
        self._changed.add(document)

    def _forget(self, service: str) -> None:
        del self._known[service]
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
