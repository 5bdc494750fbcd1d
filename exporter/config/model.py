"""A validated configuration. Durations are in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from exporter.config.problems import Problem
from exporter.core.budget import DEFAULT_PREDICTION, Budget, PredictionSettings
from exporter.core.prices import Prices
from exporter.core.windows import DAY


class Right(StrEnum):
    """What a bearer token allows."""

    PUSH = "push"
    READ = "read"
    OPERATE = "operate"


class Preferred(StrEnum):
    """Which OTLP signal counts for a service that sends usage in several.

    Attributes:
        COMPLETE: for each model, what says most: a tool's own log events or metrics, else spans
            unless they turn out to be a sample, else metrics.
        METRICS, TRACES: these, wherever there are any.
    """

    COMPLETE = "complete"
    METRICS = "metrics"
    TRACES = "traces"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that shows whether a provider works again.

    Attributes:
        url: what to ask.
        method: the HTTP method.
        headers: what to send along.
        headers_file: a file with more of them, for secrets.
        interval: time to wait before the second try; it grows with every failure.
        max_interval: what it grows to.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    headers_file: Path | None = None
    interval: float = 30.0
    max_interval: float = 900.0


class AccountApi(StrEnum):
    """Whose documented endpoints tell about an account."""

    OPENROUTER = "openrouter"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Account:
    """Where a provider says what an account may use, and has used.

    Attributes:
        api: which documented endpoints.
        headers_file: a file with the headers that hold the key.
        url: what stands before the paths of the endpoints; empty: the provider's own.
        project: a project of OpenAI's, or a workspace of Anthropic's, that alone is looked at;
            empty: the whole organization.
        interval: time between two readings at least.
        headers: what the file holds, once it is read.
    """

    api: AccountApi
    headers_file: Path
    url: str = ""
    project: str = ""
    interval: float = 300.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """Gives usage with certain attributes to one provider, or leaves it to other reporters.

    Attributes:
        match: attribute -> shell pattern, at least one; every one has to match.
        provider: the name it counts under; empty: it does not count.
    """

    match: Mapping[str, str]
    provider: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """How to read what a gateway posts for its requests.

    Attributes:
        items: the JSON path (RFC 9535) of the items of a body; empty: the body is one, or a list
            of them.
        fields: what an item says -> its JSON path, or a constant that does not begin with `$`.
    """

    items: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, or all together, may ask of the exporter.

    Attributes:
        providers: providers tracked beside those with a budget; more fold into `other`.
        models_per_provider: models told apart; more fold into `other`.
        consumers_per_provider: consumers told apart; more fold into `other`.
        body_bytes: bytes of a request, after decompression too.
        events_per_request: events in one request.
        label_length: characters of a provider's or a model's name.
        connections: open connections.
        watchers: of these, how many may watch at a time.
        outstanding_requests: requests waiting to be stored.
        outstanding_bytes: bytes of all bodies in hand, packed and unpacked; native pushes of up to
            256 KiB are bounded by `connections` alone.
        request_timeout: time a request may take to arrive.
    """

    providers: int = 10_000
    models_per_provider: int = 100
    consumers_per_provider: int = 100
    body_bytes: int = 10 * 2**20
    events_per_request: int = 100_000
    label_length: int = 128
    connections: int = 1000
    watchers: int = 500
    outstanding_requests: int = 10_000
    outstanding_bytes: int = 256 * 2**20
    request_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Bearer:
    """A bearer token.

    Attributes:
        name: who has it.
        file: where it is.
        rights: what it allows, at least one.
    """

    name: str
    file: Path
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured; an empty file is `Config()`.

    Attributes:
        budgets: provider -> its budgets, each with a period of its own; weights resolved.
        prediction: how use is projected, unless a budget says otherwise.
        prices: what tokens cost where a report does not say.
        aliases: reported name -> the name it counts under; chains are resolved.
        probes: provider -> how to try whether it works again.
        accounts: provider -> where it says what its account may use, and has used.
        rules: which usage counts for which provider; the first that matches decides.
        limits: protections.
        retention: how long history is kept, at least the longest window.
        deduplication: how long the ids of events are remembered.
        otlp_prefer: which signal counts when one service sends usage in both.
        exhausted_from: a refusal that asks to wait at least so long, and does not say that it is
            about a rate, is about a quota.
        bearers: who may do what; everybody everything when empty.
        consumer: which attribute of a report names who asked: the first that it carries.
        webhooks: how to read what gateways post, by the name in the path they post to.
        deprecated: what the file says that is accepted still, but will not be.
    """

    budgets: Mapping[str, tuple[Budget, ...]] = field(default_factory=dict)
    prediction: PredictionSettings = DEFAULT_PREDICTION
    prices: Prices = field(default_factory=Prices)
    aliases: Mapping[str, str] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    limits: Limits = Limits()
    retention: float = 35.0 * DAY
    deduplication: float = 2.0 * DAY
    otlp_prefer: Preferred = Preferred.COMPLETE
    exhausted_from: float = 3600.0
    bearers: tuple[Bearer, ...] = ()
    consumer: tuple[str, ...] = ("team", "key_alias", "service")
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    deprecated: tuple[Problem, ...] = field(default=(), compare=False)

    @property
    def providers(self) -> frozenset[str]:
        """Every provider that is named somewhere: none of them is beyond a cap."""
        rules = (rule.provider for rule in self.rules if rule.provider)
        named = (*self.budgets, *self.probes, *self.accounts)
        return frozenset((*named, *self.aliases.values(), *rules))

    @property
    def models(self) -> frozenset[str]:
        """Every name and pattern of models that is written somewhere."""
        budgets = (one.model for those in self.budgets.values() for one in those)
        rules = (rule.match.get("model", "") for rule in self.rules)
        return frozenset(one for one in (*budgets, *rules, *self.prices.configured) if one)
