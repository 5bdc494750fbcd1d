"""Items that could not be used: what is kept of them, answered and logged, each within bounds."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from exporter.intake.reading import MalformedBody, Rejection

MAX_KEPT_BYTES = 4096
"""Of the rejections of one request: they are kept as long as its `Idempotency-Key`, and a request
of 200 bytes can have 100,000."""

MAX_ERROR = 400
"""Characters of one error."""

LOG_SECONDS = 60.0
"""How often the same rejection of one client is logged; the counters have them all."""

MAX_LINES = 1000
"""Lines within that time, whoever sends what."""

_GIVEN = re.compile(r", .*", re.DOTALL)
_FIELD = re.compile(r"(?<=unknown field) (?!`[A-Za-z_][A-Za-z0-9_]{0,31}`).*", re.DOTALL)
"""What an error says of a given value, or of a field with an odd name: that may be anything,
somebody's prompt too."""

log = logging.getLogger("exporter")


class Rejected(msgspec.Struct, frozen=True):
    """The rejections of a request, in the order of its items.

    Attributes:
        listed: the first of them.
        more: how many there are beyond those.
    """

    listed: list[Rejection]
    more: int = 0


_decoder = msgspec.json.Decoder(list[Rejection] | Rejected)


def encode(rejections: Sequence[Rejection]) -> bytes:
    """The rejections as they are kept: a list, or where that is too long what `Rejected` is."""
    listed: list[Rejection] = []
    room = MAX_KEPT_BYTES
    for one in sorted(rejections, key=lambda one: one.index):
        one = Rejection(one.index, _shortened(one.error))
        room -= len(msgspec.json.encode(one)) + 1
        if room < 0 and listed:
            return msgspec.json.encode(Rejected(listed, len(rejections) - len(listed)))
        listed.append(one)
    return msgspec.json.encode(listed)


def decode(kept: bytes) -> Rejected:
    """What `encode` kept."""
    found = _decoder.decode(kept)
    return found if isinstance(found, Rejected) else Rejected(found)


@contextmanager
def item(rejected: list[Rejection], index: int) -> Iterator[None]:
    """Read one item of a request: whatever goes wrong is the rejection of that item alone, which
    is added to `rejected`."""
    try:
        yield
    except RecursionError:
        rejected.append(Rejection(index, "expected JSON nested less deeply"))
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        if isinstance(error, MalformedBody):
            raise
        rejected.append(Rejection(index, str(error)))
    except Exception as error:  # a reader's own fault: the other items shall not pay for it
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        # Not its words: they may hold what the item held.
        fields = {"error": type(error).__name__, "where": where}
        log.error("cannot read an item", extra={"fields": fields})
        rejected.append(Rejection(index, f"cannot be read ({type(error).__name__})"))


class RejectionLog:
    """Says what is rejected: once a minute for each source, client and reason."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str, str], tuple[float, int]] = {}

    def add(self, source: str, client: str, items: int, error: str, now: float) -> None:
        """Log that items of a source were rejected; `error` is the first one's."""
        said = _shortened(_FIELD.sub("", _GIVEN.sub("", error)))
        key = (source, client, said)
        at, unsaid = self._lines.get(key, (-LOG_SECONDS, 0))
        if at <= now < at + LOG_SECONDS:
            self._lines[key] = (at, unsaid + items)
            return
        if len(self._lines) >= MAX_LINES:
            recent = {key: line for key, line in self._lines.items() if now < line[0] + LOG_SECONDS}
            self._lines = recent
            if len(recent) >= MAX_LINES:
                return
        self._lines[key] = (now, 0)
        fields = {"source": source, "client": client, "items": items, "error": said}
        if unsaid:
            fields["items_since_last_line"] = unsaid
        log.warning("push rejected", extra={"fields": fields})


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"
