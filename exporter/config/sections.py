"""The sections of the configuration file."""

import re
from collections.abc import Callable, Mapping

from exporter.config import budgets, prices, readers, webhooks
from exporter.config.document import Invalid, T, Value
from exporter.config.model import (
    Account,
    AccountApi,
    Bearer,
    Config,
    Limits,
    Preferred,
    Probe,
    Right,
    Rule,
)
from exporter.core.budget import PLAIN, Budget
from exporter.core.prices import Prices
from exporter.core.windows import DAY, HOUR, MINUTE, format_duration

MATCHED = ("provider", "model", "key_alias", "key_hash", "team", "service")
"""What a rule can look at."""

REPORTERS = frozenset({"service", "team", "key_alias", "key_hash"})
"""What tells who reports: whoever uses a provider past a gateway has none of a gateway's keys."""

IDENTIFYING = ("team", "key_alias", "key_hash", "service", "end_user")
"""What can name a consumer, beside attributes of OpenTelemetry."""

_OTEL_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+", re.ASCII)

_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)

_SECTIONS = (
    "budgets",
    "weights",
    "prediction",
    "prices",
    "prices_file",
    "aliases",
    "providers",
    "rules",
    "limits",
    "retention",
    "deduplication",
    "otlp",
    "signals",
    "consumer",
    "webhooks",
    "authentication",
)


def config(value: Value) -> Config:
    """The whole file."""
    default = Config()
    table = value.table(*_SECTIONS)
    limits = table.read("limits", _limits, default.limits)
    longest = limits.label_length
    aliases = table.read("aliases", budgets.aliases(longest), default.aliases)
    weights = table.read("weights", budgets.weights(PLAIN), PLAIN)
    prediction = table.read(
        "prediction", budgets.predictions(default.prediction), default.prediction
    )
    owned = table.read(
        "budgets",
        budgets.by_provider(budgets.budgets(weights, prediction, longest), longest, aliases),
        default.budgets,
    )
    asked = table.read("providers", budgets.by_provider(_provider, longest, aliases), {})
    return Config(
        budgets=owned,
        prediction=prediction,
        prices=Prices(
            configured=table.read("prices", prices.configured, {}),
            listed=table.read("prices_file", prices.listed, {}),
        ),
        aliases=aliases,
        probes={name: probe for name, (probe, _) in asked.items() if probe is not None},
        accounts={name: account for name, (_, account) in asked.items() if account is not None},
        rules=table.read("rules", _all(_rule(longest)), default.rules),
        limits=limits,
        retention=table.read("retention", _retention(owned), default.retention),
        deduplication=table.read(
            "deduplication", readers.duration(DAY, 35 * DAY), default.deduplication
        ),
        otlp_prefer=table.read("otlp", _otlp, default.otlp_prefer),
        exhausted_from=table.read("signals", _signals, default.exhausted_from),
        consumer=table.read("consumer", _all(_identifying), default.consumer),
        webhooks=table.read("webhooks", webhooks.webhooks(longest), default.webhooks),
        bearers=table.read("authentication", _discreet(_authentication), default.bearers),
    )


def _all(reader: Callable[[Value], T]) -> Callable[[Value], tuple[T, ...]]:
    def read_all(value: Value) -> tuple[T, ...]:
        found = [item.read(reader, None) for item in value.items()]
        return tuple(one for one in found if one is not None)

    return read_all


def _discreet(reader: Callable[[Value], T]) -> Callable[[Value], T]:
    """The same reader for a place where a secret may stand, which no message may show."""

    def read(value: Value) -> T:
        try:
            return reader(value)
        except Invalid as exc:
            raise Invalid(str(exc), "something else") from None

    return read


def _provider(value: Value) -> tuple[Probe | None, Account | None]:
    table = value.table("probe", "account")
    return table.read("probe", _probe, None), table.read("account", _account, None)


def _account(value: Value) -> Account | None:
    table = value.table("api", "headers_file", "url", "project", "interval")
    api = table.need("api", readers.choice(AccountApi), None)
    headers_file = table.need("headers_file", readers.secret_file, None)
    url = table.read("url", _url, "")
    project = table.read("project", _project(api), "")
    interval = table.read("interval", readers.duration(MINUTE, DAY), 300.0)
    if api is None or headers_file is None:
        return None
    return Account(api, headers_file, url, project, interval)


def _project(api: AccountApi | None) -> Callable[[Value], str]:
    def read(value: Value) -> str:
        if api is AccountApi.OPENROUTER:
            raise Invalid("expected none with this api: a key is what it tells about")
        text = value.text("expected the id of a project or workspace")
        if not _PROJECT.fullmatch(text):
            raise Invalid("expected the id of a project or workspace")
        return text

    return read


def _probe(value: Value) -> Probe:
    default = Probe(url="")
    table = value.table("url", "method", "headers", "headers_file", "interval", "max_interval")
    interval = table.read("interval", readers.duration(1, DAY), default.interval)
    return Probe(
        url=table.need("url", _url, default.url),
        method=table.read("method", readers.method, default.method),
        headers=table.read("headers", _discreet(_headers), default.headers),
        headers_file=table.read("headers_file", readers.secret_file, default.headers_file),
        interval=interval,
        max_interval=table.read(
            "max_interval",
            readers.duration(interval, DAY),
            max(interval, default.max_interval),
        ),
    )


def _url(value: Value) -> str:
    reader = _discreet(readers.url) if "@" in value.raw else readers.url
    return reader(value)


def _headers(value: Value) -> Mapping[str, str]:
    entries = value.entries()
    for header, entry in entries.items():
        if not readers.HEADER.fullmatch(header):
            entry.note(f"expected the name of an HTTP header, got {header!r}")
    return {header: entry.read(readers.header, "") for header, entry in entries.items()}


def _rule(longest: int) -> Callable[[Value], Rule]:
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


def _identifying(value: Value) -> str:
    expected = (
        f"expected {', '.join(IDENTIFYING)}, or an attribute of OpenTelemetry with a dot in its "
        "name such as service.namespace"
    )
    text = value.word(expected)
    if text not in IDENTIFYING and not _OTEL_ATTRIBUTE.fullmatch(text):
        raise Invalid(expected)
    return text


def _limits(value: Value) -> Limits:
    default = Limits()
    table = value.table(*Limits.__dataclass_fields__)

    def count(key: str, low: int, high: int, otherwise: int) -> int:
        return table.read(key, readers.integer(low, high), otherwise)

    connections = count("connections", 1, 100_000, default.connections)
    return Limits(
        providers=count("providers", 1, 1_000_000, default.providers),
        models_per_provider=count("models_per_provider", 1, 10_000, default.models_per_provider),
        consumers_per_provider=count(
            "consumers_per_provider", 1, 10_000, default.consumers_per_provider
        ),
        body_bytes=table.read("body_bytes", readers.size(2**10, 2**30), default.body_bytes),
        events_per_request=count("events_per_request", 1, 10_000_000, default.events_per_request),
        label_length=count("label_length", 16, 1024, default.label_length),
        connections=connections,
        watchers=count("watchers", 0, connections - 1, connections // 2),
        outstanding_requests=count(
            "outstanding_requests", 1, 1_000_000, default.outstanding_requests
        ),
        outstanding_bytes=table.read(
            "outstanding_bytes", readers.size(2**10, 2**40), default.outstanding_bytes
        ),
        request_timeout=table.read(
            "request_timeout", readers.duration(1, HOUR), default.request_timeout
        ),
    )


def _retention(owned: Mapping[str, tuple[Budget, ...]]) -> Callable[[Value], float]:
    def read_retention(value: Value) -> float:
        seconds = readers.duration(2 * DAY, 400 * DAY)(value)
        for provider, those in owned.items():
            for period in (budget.period for budget in those):
                if period.longest > seconds:
                    raise Invalid(
                        f"expected at least {format_duration(period.longest)}, "
                        f"since {provider} has a budget per {period.name}"
                    )
        return seconds

    return read_retention


def _otlp(value: Value) -> Preferred:
    return value.table("prefer").read("prefer", readers.choice(Preferred), Config().otlp_prefer)


def _signals(value: Value) -> float:
    reader = readers.duration(MINUTE, DAY)
    return value.table("exhausted_from").read("exhausted_from", reader, Config().exhausted_from)


def _authentication(value: Value) -> tuple[Bearer, ...]:
    return value.table("tokens").read("tokens", _discreet(_bearers), ())


def _bearers(value: Value) -> tuple[Bearer, ...]:
    names: set[str] = set()

    def new_name(value: Value) -> str:
        text = value.text("expected a name")
        if not text or text in names:
            raise Invalid("expected a name that no other token has")
        names.add(text)
        return text

    def bearer(value: Value) -> Bearer | None:
        table = value.table("name", "file", "rights")
        name = table.need("name", new_name, "")
        file = table.need("file", readers.secret_file, None)
        rights = table.need("rights", _rights, frozenset())
        return None if file is None else Bearer(name, file, rights)

    return tuple(one for one in _all(_discreet(bearer))(value) if one is not None)


def _rights(value: Value) -> frozenset[Right]:
    rights = frozenset(_all(readers.choice(Right))(value))
    if not value.items():
        raise Invalid(f"expected one or more of {', '.join(Right)}", "none")
    return rights
