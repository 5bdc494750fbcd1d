"""The section `webhooks`: where the fields of what a gateway posts are found."""

from collections.abc import Callable, Mapping

import jsonpath

from exporter.config.document import Value
from exporter.config.model import Webhook
from exporter.config.problems import Invalid
from exporter.core.usage import KINDS

FIELDS = (
    *("provider", "model", "consumer", "id", "timestamp", "usage", *KINDS, "cost_usd"),
    *("status", "headers", "body"),
)
"""What an item of a webhook may say."""

_CONSTANTS = ("provider", "model", "consumer")
"""Fields for which the configuration may say a value instead of where it is."""


def webhooks(longest: int) -> Callable[[Value], Mapping[str, Webhook]]:
    """Webhooks by name, of up to `longest` characters."""

    def read(value: Value) -> Mapping[str, Webhook]:
        found = {}
        for name, entry in value.entries().items():
            if not name.isprintable() or "/" in name or not 0 < len(name) <= longest:
                entry.note(f"expected a name without '/', got {name!r}")
            found[name] = entry.read(_webhook, Webhook())
        return found

    return read


def _webhook(value: Value) -> Webhook:
    table = value.table("items", *FIELDS)
    fields = {
        name: table.need(name, _field(name), "")
        for name in FIELDS
        if name == "provider" or name in table.entries
    }
    if not fields.keys() & {"usage", "status", *KINDS}:
        raise Invalid(f"expected one or more of usage, status, {', '.join(KINDS)}", "none")
    if "usage" in fields and fields.keys() & set(KINDS):
        raise Invalid("expected either usage or tokens by kind", "both")
    return Webhook(table.read("items", _path, ""), fields)


def _path(value: Value) -> str:
    text = value.word("expected a JSON path such as $.items[*]")
    try:
        jsonpath.compile(text, strict=True)
    except jsonpath.JSONPathError as error:
        what = str(error).partition("\n")[0]
        raise Invalid(f"expected a JSON path (RFC 9535): {what}") from None
    return text


def _field(name: str) -> Callable[[Value], str]:
    """A JSON path, or a constant where one makes sense."""

    def read(value: Value) -> str:
        constant = name in _CONSTANTS
        expected = "expected a JSON path such as $.model" + ", or a constant" * constant
        text = value.word(expected)
        if text.startswith("$"):
            return _path(value)
        if not constant:
            raise Invalid(expected)
        return text

    return read
