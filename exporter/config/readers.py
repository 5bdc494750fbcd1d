"""What a single value of the configuration may be: readers that return it or raise Invalid."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from exporter.config.document import NamedFile, Value
from exporter.config.problems import Invalid
from exporter.core.budget import NANO
from exporter.core.scope import OTHER
from exporter.core.windows import format_duration, parse_duration

E = TypeVar("E", bound=StrEnum)

MAX_AMOUNT = 2**53
"""Above it, a float no longer holds every whole number."""

MAX_DOLLARS = MAX_AMOUNT // NANO
"""The same for nano-dollars."""

# YAML 1.1 also has octal (010 is 8) and base 60 (1:30 is 90): nobody means those here.
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)", re.ASCII)
_SIZE = re.compile(r"([1-9][0-9]{0,9})(KiB|MiB|GiB)", re.ASCII)
# What YAML 1.1 takes for a text: 1e6 has no point in it.
_SCIENTIFIC = re.compile(r"[0-9]{1,6}(\.[0-9]{1,20})?[eE]\+?[0-9]{1,2}", re.ASCII)
_SHORT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([kKMG])", re.ASCII)
_PLAIN = re.compile(r"[0-9][0-9_]{0,19}(?:\.[0-9]{1,9})?", re.ASCII)
_THOUSANDS = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_SIZE_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""Name of an HTTP header (RFC 9110, section 5.6.2)."""

_A_ZONE = "Europe/Berlin"

_METHOD = re.compile(r"[A-Z]+", re.ASCII)


def integer(low: int, high: int) -> Callable[[Value], int]:
    """An integer from `low` to `high`; underscores may group its digits."""

    def read(value: Value) -> int:
        expected = f"expected {'a positive integer' if low == 1 else 'an integer'}"
        if not value.tagged("int"):
            raise Invalid(expected)
        if not _DECIMAL.fullmatch(value.raw):
            raise Invalid(f"{expected} in plain decimal digits")
        # Python refuses to convert thousands of digits; the first hundred are out of bounds, too.
        found = int(value.raw.replace("_", "")[:100])
        if found > high:
            raise Invalid(f"expected at most {high:_}")
        if found < low:
            raise Invalid(expected if low == 1 else f"expected at least {low:_}")
        return found

    return read


def shortened(text: str) -> Decimal | None:
    """The number that a text such as `5M` or `1e6` means; None where it is another text."""
    if match := _SHORT.fullmatch(text):
        return Decimal(match[1]) * _THOUSANDS[match[2]]
    return Decimal(text) if _SCIENTIFIC.fullmatch(text) else None


def exact(text: str) -> Decimal | None:
    """The number that a text means: `5M`, `1e6`, `2_000_000` or `12.50`; None for another text."""
    if _PLAIN.fullmatch(text):
        return Decimal(text.replace("_", ""))
    return shortened(text)


def tokens(value: Value) -> int:
    """A budget's tokens, or requests: 2_000_000, 5M or 1e6."""
    found = shortened(value.raw) if value.tagged("str", "float") else None
    if found is None:
        return integer(1, MAX_AMOUNT)(value)
    if found > MAX_AMOUNT:
        raise Invalid(f"expected at most {MAX_AMOUNT:_}")
    if found != int(found) or found < 1:
        raise Invalid("expected a positive integer")
    return int(found)


def dollars(value: Value) -> int:
    """USD, in nano-dollars."""
    expected = f"expected USD from 0.000001 to {MAX_DOLLARS:_}"
    return nano(value, Decimal("1e-6"), Decimal(MAX_DOLLARS), expected)


def nano(value: Value, low: Decimal, high: Decimal, expected: str) -> int:
    """An exact decimal number from `low` to `high`, in whole billionths."""
    try:
        found = Decimal(value.raw.replace("_", "")) if value.tagged("int", "float", "str") else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or not low <= found <= high:
        raise Invalid(expected)
    return round(found * NANO)


def number(low: float, high: float) -> Callable[[Value], float]:
    """A finite number from `low` to `high`."""

    def read(value: Value) -> float:
        expected = f"expected a number from {low:g} to {high:g}"
        if not value.tagged("int", "float"):
            raise Invalid(expected)
        try:
            found = float(value.raw)
        except ValueError:
            raise Invalid(expected) from None
        if not low <= found <= high:
            raise Invalid(expected)
        return found

    return read


def duration(low: float, high: float) -> Callable[[Value], float]:
    """Seconds of a duration such as `90s`, from `low` to `high` seconds."""

    def read(value: Value) -> float:
        expected = f"expected a duration from {format_duration(low)} to {format_duration(high)}"
        try:
            seconds = parse_duration(value.word(expected))
        except ValueError:
            raise Invalid(expected) from None
        if not low <= seconds <= high:
            raise Invalid(expected)
        return seconds

    return read


def size(low: int, high: int) -> Callable[[Value], int]:
    """Bytes: an integer, or one with KiB, MiB or GiB."""

    def read(value: Value) -> int:
        if value.tagged("int"):
            return integer(low, high)(value)
        match = _SIZE.fullmatch(value.raw) if value.tagged("str") else None
        if match is None:
            raise Invalid("expected a number of bytes, like 1048576 or 10MiB")
        found = int(match[1]) * _SIZE_UNITS[match[2]]
        if not low <= found <= high:
            raise Invalid(f"expected {low:_} to {high:_} bytes")
        return found

    return read


def choice(enum: type[E]) -> Callable[[Value], E]:
    """One of the enum's values."""

    def read(value: Value) -> E:
        expected = f"expected {' or '.join(enum)}"
        text = value.word(expected)
        if text not in list(enum):
            raise Invalid(expected)
        return enum(text)

    return read


def name(longest: int) -> Callable[[Value], str]:
    """A provider's name."""

    def read(value: Value) -> str:
        text = value.text("expected a name")
        check_name(text, longest)
        return text

    return read


def check_name(text: str, longest: int) -> None:
    """Raise Invalid unless `text` can name a provider."""
    if not 1 <= len(text) <= longest:
        raise Invalid(f"expected a name of 1 to {longest} characters", f"{len(text)} of them")
    if not text.isprintable() or text != text.strip():
        raise Invalid("expected a name of printable characters without space around it", repr(text))
    if text == OTHER:
        raise Invalid("expected a name that is not reserved", OTHER)


def pattern(value: Value) -> str:
    """A shell pattern."""
    text = value.text("expected a pattern")
    if not text:
        raise Invalid("expected a pattern")
    return text


def zone(value: Value) -> ZoneInfo:
    """An IANA time zone."""
    expected = "expected an IANA time zone"
    text = value.word(f"{expected} such as {_A_ZONE}")
    if text in _zones():
        return ZoneInfo(text)
    close = get_close_matches(text, _zones(), n=1)
    raise Invalid(f"{expected}, perhaps {close[0]}" if close else f"{expected} such as {_A_ZONE}")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def url(value: Value) -> str:
    """An address on the web."""
    expected = "expected an http or https URL"
    text = value.word(expected)
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise Invalid(expected)
    return text


def method(value: Value) -> str:
    """An HTTP method."""
    expected = "expected an HTTP method such as GET"
    text = value.word(expected)
    if not _METHOD.fullmatch(text):
        raise Invalid(expected)
    return text


def header(value: Value) -> str:
    """The value of an HTTP header; messages do not show it, since it may be a secret."""
    if not value.tagged("str") or not value.raw.isprintable():
        raise Invalid("expected a quoted text of printable characters", "something else")
    return value.raw


def file(value: Value) -> Path:
    """A file, found from the folder of the configuration file."""
    return _file(value, secret=False)


def secret_file(value: Value) -> Path:
    """The same where it keeps a secret, which messages do not show if it stands here instead."""
    try:
        return _file(value, secret=True)
    except Invalid as exc:
        raise Invalid(str(exc), "something else") from None


def _file(value: Value, *, secret: bool) -> Path:
    text = value.text("expected the name of a file")
    if not text or not text.isprintable():
        raise Invalid("expected the name of a file")
    path = Path(value.document.name).parent / text
    value.document.files.append(NamedFile(value, path, secret))
    return path
