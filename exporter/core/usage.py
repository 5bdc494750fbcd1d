"""The vocabulary every intake format is translated into: token kinds and usage events."""

from typing import NamedTuple

import msgspec

KINDS = ("input", "cache_read", "cache_write", "output", "reasoning", "unspecified")
"""Disjoint token kinds: a token is counted under exactly one of them."""


class Tokens(NamedTuple):
    """Token counts by kind, each at least 0, in the order of `KINDS`."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    unspecified: int = 0


class ReportedCall(NamedTuple):
    """A single call, or what a counter sums up, that others may report, too.

    Attributes:
        reporter: who reports it.
        names: what is known of a call elsewhere: ids of the response and of the request, a session
            together with what was used; empty when nothing is.
    """

    reporter: str
    names: tuple[str, ...]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens that one provider was asked to process, as an application reports them.

    Attributes:
        provider: name of whatever has the quota, never empty.
        tokens: counts by kind; cumulative since `started` when `stream` is set.
        model: model name, empty when unknown.
        id: makes a retry harmless; empty when the reporter gave none.
        timestamp: Unix seconds; None means "when it arrives".
        requests: how many requests the tokens belong to.
        stream: identity of a cumulative counter. When set, the store counts only what was
            added since the last value it saw for this stream.
        started: Unix seconds at which that counter was zero; with `sampled`, at which it had
            this value.
        sampled: nobody knows when the counter began: it counts from the first value that is
            seen, and a lower one later means that it began anew.
        consumer: who asked (a team, key, application), empty when unknown.
        cost_nano_usd: what it cost in whole nano-US-dollars, at least 0; None when not reported.
        cache_write_1h: the part of `tokens.cache_write` that was written for one hour; it matters
            to prices only.
        call: where it is something that others may report, too.
    """

    provider: str
    tokens: Tokens
    model: str = ""
    id: str = ""
    timestamp: float | None = None
    requests: int = 1
    stream: str = ""
    started: float = 0.0
    consumer: str = ""
    cost_nano_usd: int | None = None
    cache_write_1h: int = 0
    sampled: bool = False
    call: ReportedCall | None = None
