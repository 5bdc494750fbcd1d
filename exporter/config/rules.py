"""Rules that say what usage counts for, and whose it is."""

import re
from collections.abc import Callable, Mapping

from exporter.config import readers
from exporter.config.document import Value
from exporter.config.model import Rule
from exporter.config.problems import Invalid

MATCHED = ("provider", "model", "key_alias", "key_hash", "team", "service")
"""What a rule can look at."""

REPORTERS = frozenset({"service", "team", "key_alias", "key_hash"})
"""What tells who reports: whoever uses a provider past a gateway has none of a gateway's keys."""

IDENTIFYING = ("team", "key_alias", "key_hash", "service", "end_user")
"""What can name a consumer, beside attributes of OpenTelemetry."""

_OTEL_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+", re.ASCII)


def rule(longest: int) -> Callable[[Value], Rule]:
    """A rule: what usage has to match, and the provider that it counts for, or that none does."""

    def read_rule(value: Value) -> Rule:
        table = value.table("match", "provider", "count")
        match = table.need("match", _match, {})
        if "count" in table.entries:
            table.read("count", _uncounted(match, "provider" in table.entries), None)
            return Rule(match, "")
        return Rule(match, table.need("provider", readers.name(longest), ""))

    return read_rule


def _uncounted(match: Mapping[str, str], with_provider: bool) -> Callable[[Value], None]:
    """`count: false` beside something that only one of several reporters tells."""

    def read(value: Value) -> None:
        if not value.tagged("bool") or value.raw.lower() != "false":
            raise Invalid("expected false")
        if with_provider:
            raise Invalid("expected no provider beside it")
        if match and not match.keys() & REPORTERS:
            raise Invalid(f"expected {' or '.join(sorted(REPORTERS))} to match beside it")

    return read


def _match(value: Value) -> Mapping[str, str]:
    entries = value.table(*MATCHED).entries
    if not entries:
        raise Invalid(f"expected a pattern for {' or '.join(MATCHED)}", "none")
    return {attribute: entry.read(readers.pattern, "") for attribute, entry in entries.items()}


def identifying(value: Value) -> str:
    """Something that can name a consumer."""
    expected = (
        f"expected {', '.join(IDENTIFYING)}, or an attribute of OpenTelemetry with a dot in its "
        "name such as service.namespace"
    )
    text = value.word(expected)
    if text not in IDENTIFYING and not _OTEL_ATTRIBUTE.fullmatch(text):
        raise Invalid(expected)
    return text
