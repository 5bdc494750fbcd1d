"""Log lines with fields, as logfmt or JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

FORMATS = ("logfmt", "json")
LEVELS = ("debug", "info", "warn", "error")


def set_up(level: str, form: str) -> None:
    """Send everything from `level` up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(json_lines=form == "json"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("exporter", "uvicorn.error"):
        logging.getLogger(name).setLevel(level.upper().replace("WARN", "WARNING"))
    # uvicorn tells of its own start and end; ours say more.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    def __init__(self, *, json_lines: bool) -> None:
        super().__init__()
        self._json = json_lines

    def format(self, record: logging.LogRecord) -> str:
        """One line: time, level, message, fields."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(fields, default=str, ensure_ascii=False)
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: Any) -> str:
    text = "" if value is None else str(value)
    if text and not any(c in ' "=' or not c.isprintable() for c in text):
        return text
    return json.dumps(text, ensure_ascii=False)
