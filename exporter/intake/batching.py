"""From what a request said to what the store keeps: names settled, times checked, ids hashed."""

from collections.abc import Callable, Sequence
from hashlib import blake2b

from exporter.core.series import Series
from exporter.core.slots import AHEAD_SECONDS, FINE_SECONDS, Counts, add
from exporter.core.usage import Tokens, Usage
from exporter.core.windows import format_duration
from exporter.intake import rejections
from exporter.intake.reading import Rejection
from exporter.service import Cost
from exporter.storage.contract import (
    DIGEST_BYTES,
    Batch,
    CumulativeReport,
    DedupEntries,
    DedupEntry,
)

MAX_TOKENS = 10**12
"""Per event and kind: far beyond any request, far below where sums could overflow."""

MAX_TOTAL = 2**53
"""Of a cumulative counter: beyond it not every integer has a place in a float."""

MAX_REMEMBERED = 10_000
"""Names whose check is not repeated."""

Place = Callable[[str, str, str], Series]
"""From canonical provider, model and consumer to the series that it is counted under."""


def digest(*parts: str) -> bytes:
    """16 bytes that identify the parts."""
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(joined, digest_size=DIGEST_BYTES).digest()


def event_digest(scope: bytes, identity: str) -> bytes:
    """The identity of an event of a provider, given its `event_scope`."""
    said = scope + identity.encode("utf-8", "surrogatepass")
    return blake2b(said, digest_size=DIGEST_BYTES).digest()


def event_scope(provider: str) -> bytes:
    """What the ids of a provider's events are unique in."""
    return b"id\0" + provider.encode("utf-8", "surrogatepass") + b"\0"


def request_key(source: str, client: str, key: str) -> bytes:
    """The identity of a client's request with an `Idempotency-Key`; an empty name is everybody
    where nobody needs one."""
    return digest("key", source, *([client] if client else ()), key)


def check_label(what: str, text: str, longest: int) -> None:
    """Check a name that becomes a label.

    Raises:
        ValueError: too long, or with characters that do not print.
    """
    if len(text) > longest:
        raise ValueError(f"{what}: expected at most {longest} characters, got {len(text)}")
    if not text.isprintable() or text != text.strip():
        raise ValueError(
            f"{what}: expected printable characters without blanks around, got {text!r}"
        )


def check_time(timestamp: float, now: float, retention: float) -> None:
    """Check that an event can be counted in the window of its timestamp (Unix seconds).

    Raises:
        ValueError: not a moment, older than the retention, or more than 5 minutes ahead.
    """
    if not abs(timestamp) < 1e11:
        raise ValueError(f"timestamp: expected Unix seconds or RFC 3339, got {timestamp!r}")
    if timestamp > now + AHEAD_SECONDS:
        raise ValueError(
            f"timestamp: {timestamp - now:.0f} s ahead of this clock, at most {AHEAD_SECONDS} "
            f"allowed, got {timestamp!r}"
        )
    if timestamp < now - retention:
        raise ValueError(
            f"timestamp: older than the retention of {format_duration(retention)}, "
            f"got {timestamp!r}"
        )


class Batcher:
    """Builds the batches of one moment.

    Attributes:
        place: where usage is counted.
        now: Unix seconds of the request.
        retention: seconds of history that is kept.
        longest: characters a label may have.
        remembered: names that are known to be good and not folded, added to; of any age.
        consumer: who asked, where usage does not say.
        prices: what usage costs, where it does not say; None where nothing has a price.
        unpriced: (provider, model) -> requests whose cost is not known.
    """

    def __init__(
        self,
        place: Place,
        now: float,
        retention: float,
        longest: int,
        remembered: dict[tuple[str, ...], Series] | None = None,
        consumer: str = "",
        prices: Cost | None = None,
    ) -> None:
        self._consumer = consumer
        self.prices = prices
        self.unpriced: dict[tuple[str, str], int] = {}
        self._place = place
        self._remembered = {} if remembered is None else remembered
        self._now = now
        self._present = int(now // FINE_SECONDS)
        self._retention = retention
        self._longest = longest

    def slot(self, timestamp: float | None) -> int:
        """The fine slot of a timestamp; None is now.

        Raises:
            ValueError: see `check_time`.
        """
        if timestamp is None:
            return self._present
        check_time(timestamp, self._now, self._retention)
        return int(timestamp // FINE_SECONDS)

    def series(self, provider: str, model: str, consumer: str = "") -> Series:
        """Where usage is counted.

        Raises:
            ValueError: a name that cannot be a label.
        """
        consumer = consumer or self._consumer
        names = (provider, model, consumer)
        if (known := self._remembered.get(names)) is not None:
            return known
        if not provider:
            raise ValueError("provider: expected a name, got ''")
        check_label("provider", provider, self._longest)
        check_label("model", model, self._longest)
        check_label("consumer", consumer, self._longest)
        placed = self._place(provider, model, consumer)
        if placed == names and len(self._remembered) < MAX_REMEMBERED:
            self._remembered[names] = placed
        return placed

    def price(self, series: Series, tokens: Sequence[int], cache_write_1h: int = 0) -> int | None:
        """What tokens cost in whole nano-US-dollars, at most `MAX_TOTAL`; None where there is no
        price."""
        if self.prices is None:
            return None
        cost = self.prices(series.provider, series.model, Tokens(*tokens), cache_write_1h)
        return None if cost is None else min(cost, MAX_TOTAL)

    def add_unpriced(self, series: Series, requests: int) -> None:
        """Requests were counted whose cost is not known."""
        key = (series.provider, series.model)
        self.unpriced[key] = self.unpriced.get(key, 0) + requests

    def batch(
        self, usages: Sequence[tuple[int, Usage]], rejected: list[Rejection], key: bytes = b""
    ) -> Batch:
        """A batch of the usages, each with its index in the request; `rejected` is added to."""
        batch = Batch(key=key)
        claims: list[DedupEntry] = []
        for index, usage in usages:
            with rejections.item(rejected, index):
                self._add(batch, claims, usage)
        batch.claims = DedupEntries.of(claims)
        if rejected:
            batch.rejected = rejections.encode(rejected)
            batch.rejected_count = len(rejected)
        return batch

    def _add(self, batch: Batch, claims: list[DedupEntry], usage: Usage) -> None:
        for kind, count in zip(usage.tokens._fields, usage.tokens, strict=True):
            most = MAX_TOTAL if usage.stream else MAX_TOKENS
            if not 0 <= count <= most:
                raise ValueError(f"{kind} tokens: expected 0 to {most}, got {count}")
        if not 0 <= usage.requests <= MAX_TOTAL:
            raise ValueError(f"requests: expected 0 to {MAX_TOTAL}, got {usage.requests}")
        # The time first: a name is not taken up because of an event that is refused.
        slot = self.slot(usage.timestamp)
        series = self.series(usage.provider, usage.model, usage.consumer)
        cell = (series, slot)
        cost = usage.cost_nano_usd
        if cost is None:
            cost = self.price(series, usage.tokens, usage.cache_write_1h)
            if cost is None and usage.requests:
                self.add_unpriced(series, usage.requests)
        counts: Counts = [*usage.tokens, usage.requests, cost or 0]
        if usage.stream:
            level = CumulativeReport(
                digest("stream", usage.stream), usage.started, cell, counts, usage.sampled
            )
            batch.reports.append(level)
            return
        add(batch.increments, cell, counts)
        if usage.id:
            claims.append(
                DedupEntry(event_digest(event_scope(series.provider), usage.id), cell, counts)
            )
        else:
            batch.events += 1
