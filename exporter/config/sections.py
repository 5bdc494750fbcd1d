"""The sections of the configuration file."""

from collections.abc import Callable, Mapping

from exporter.config import aliases as names
from exporter.config import budgets, prices, providers, readers, rules, webhooks
from exporter.config.combinators import discreet, every
from exporter.config.document import Value
from exporter.config.model import (
    Bearer,
    Config,
    Limits,
    Preferred,
    Right,
)
from exporter.config.problems import Invalid
from exporter.core.budget import PLAIN, Budget
from exporter.core.prices import Prices
from exporter.core.windows import DAY, HOUR, MINUTE, format_duration

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
    aliases = table.read("aliases", names.aliases(longest), default.aliases)
    weights = table.read("weights", budgets.weights(PLAIN), PLAIN)
    prediction = table.read(
        "prediction", budgets.predictions(default.prediction), default.prediction
    )
    owned = table.read(
        "budgets",
        names.by_provider(budgets.budgets(weights, prediction, longest), longest, aliases),
        default.budgets,
    )
    asked = table.read("providers", names.by_provider(providers.provider, longest, aliases), {})
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
        rules=table.read("rules", every(rules.rule(longest)), default.rules),
        limits=limits,
        retention=table.read("retention", _retention(owned), default.retention),
        deduplication=table.read(
            "deduplication", readers.duration(DAY, 35 * DAY), default.deduplication
        ),
        otlp_prefer=table.read("otlp", _otlp, default.otlp_prefer),
        exhausted_from=table.read("signals", _signals, default.exhausted_from),
        consumer=table.read("consumer", every(rules.identifying), default.consumer),
        webhooks=table.read("webhooks", webhooks.webhooks(longest), default.webhooks),
        bearers=table.read("authentication", discreet(_authentication), default.bearers),
    )


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
    return value.table("tokens").read("tokens", discreet(_bearers), ())


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

    return tuple(one for one in every(discreet(bearer))(value) if one is not None)


def _rights(value: Value) -> frozenset[Right]:
    rights = frozenset(every(readers.choice(Right))(value))
    if not value.items():
        raise Invalid(f"expected one or more of {', '.join(Right)}", "none")
    return rights
