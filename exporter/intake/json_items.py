"""One JSON object, an array of them, or one object per line."""

import msgspec

from exporter.intake.reading import MalformedBody

_raw = msgspec.json.Decoder(msgspec.Raw)
_array = msgspec.json.Decoder(list[msgspec.Raw])


def json_items(body: bytes) -> list[msgspec.Raw]:
    """The items of a body, not decoded yet.

    Raises:
        MalformedBody: it is none of these, or empty.
    """
    text = body.strip()
    if not text:
        raise MalformedBody("expected a JSON object, an array, or one object per line, got nothing")
    try:
        return _array.decode(text) if text.startswith(b"[") else [_raw.decode(text)]
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        lines = [msgspec.Raw(line) for line in text.splitlines() if line.strip()]
        if text.startswith(b"[") or len(lines) == 1:
            raise MalformedBody(f"not JSON: {error}") from error
        return lines
