"""Questions of routers, and their answers from what is known: nothing is measured.

Both ways of a request lead here, so that they answer the same: see `exporter.web.lookups`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from exporter.availability import CachedAnswer, tagged
from exporter.core.scope import Scope
from exporter.intake.batching import check_label
from exporter.intake.naming import Naming
from exporter.provider_views import ends_at
from exporter.service import Service
from exporter.web import authorize, views
from exporter.web.provider_route import about
from exporter.web.ready import ReadyAnswers
from exporter.web.reply import Reply

PROVIDER = "/v1/providers/{provider}"
EXHAUSTED = "/v1/exhausted"
AVAILABILITY = "/v1/availability"

_ONE = PROVIDER.partition("{")[0]
_ASKED = {"provider", "model", "consumer"}

ALL = ""
"""Stands for all providers together where a question is about one."""

Topic = tuple[str, str]
"""What an answer rests on: `PROVIDER` (all that is shown) or `AVAILABILITY`, and of whom."""

Answered = tuple[Reply, float]
"""What is answered, and Unix seconds from which that may no longer be true."""


class Question(NamedTuple):
    """One that was understood.

    Attributes:
        route: the template of its path.
        topic: what its answer rests on.
        answer: makes the answer of a moment.
    """

    route: str
    topic: Topic
    answer: Callable[[float], Answered]


class _Shown(NamedTuple):
    """A provider as JSON."""

    body: bytes
    until: float

    @property
    def size(self) -> int:
        return len(self.body)


class Questions:
    """Understands requests; every method raises `ValueError` where one makes no sense.

    Args:
        service: knows the answers.
        naming: under which names.
    """

    def __init__(self, service: Service, naming: Naming) -> None:
        self._service = service
        self._naming = naming
        self._shown = ReadyAnswers[_Shown]()
        self.outdate = self._shown.outdate
        self.outdate_all = self._shown.clear

    def at(self, target: bytes) -> Question | None:
        """What `GET target` asks; None for other requests."""
        raw, _, query = target.partition(b"?")
        path = unquote(raw.decode("ascii"))
        if path == EXHAUSTED:
            return self.exhausted(parameters(query))
        if path == AVAILABILITY:
            return self.availability(parameters(query))
        if path.startswith(_ONE) and not about(raw):
            return self.provider(path.removeprefix(_ONE))
        return None

    def provider(self, name: str) -> Question:
        """All that is known of one provider."""
        if not name:
            raise ValueError("provider: expected a name, got ''")
        self._check(provider=name)
        name = self._naming.name(name)
        return Question(PROVIDER, (PROVIDER, name), lambda now: _answered(self._view(name, now)))

    def exhausted(self, parameters: Mapping[str, str]) -> Question:
        """Of whom nothing can be had."""
        text = parameters.get("include_elapsed", "false")
        if text not in ("true", "false"):
            raise ValueError(f"include_elapsed: expected true or false, got {text[:64]!r}")
        known = partial(self._service.availability.exhausted, include_elapsed=text == "true")
        return Question(EXHAUSTED, (AVAILABILITY, ALL), lambda now: _answered(known(now)))

    def availability(self, parameters: Mapping[str, str]) -> Question:
        """Whether a request may be sent; without parameters, what may not."""
        if unknown := parameters.keys() - _ASKED:
            raise ValueError(
                f"expected the parameters provider, model, consumer, got {min(unknown)[:64]!r}"
            )
        self._check(**parameters)
        provider, model = parameters.get("provider", ""), parameters.get("model", "")
        known = self._service.availability
        if not parameters:
            return Question(
                AVAILABILITY, (AVAILABILITY, ALL), lambda now: _answered(known.all(now))
            )
        if not provider:
            raise ValueError("provider: expected a name beside model and consumer")
        scope = self._scope(provider, model, parameters.get("consumer", ""))
        return Question(
            AVAILABILITY,
            (AVAILABILITY, scope.provider),
            lambda now: _answered(known.of(scope, now)),
        )

    def authorize(self, asked: authorize.Asked, parameters: Mapping[str, str]) -> Question:
        """Whether a gateway may let a request pass."""
        denied = authorize.denied_status(parameters)
        if not asked[0]:
            name = authorize.PROVIDER
            raise ValueError(f"{name}: expected the name of a provider, got none")
        self._check(**dict(zip(authorize.HEADERS, asked, strict=True)))
        scope = self._scope(*asked)
        known = self._service.availability
        return Question(
            authorize.PATH,
            (AVAILABILITY, scope.provider),
            lambda now: authorize.answer(scope.provider, known.meets(scope, now), now, denied),
        )

    def shown(self, name: str, now: float) -> bytes:
        """A provider, by its canonical name, as JSON; for whoever asks about many at once."""
        kept = self._shown.get(name, now)
        if kept is None:
            body, _, until = self._view(name, now)
            kept = _Shown(body, until)
            self._shown.put(name, (PROVIDER, name), kept)
        return kept.body

    def _view(self, name: str, now: float) -> CachedAnswer:
        view = self._service.provider_views.of(name, now)
        return tagged(msgspec.json.encode(views.provider(view)), ends_at(view))

    def _scope(self, provider: str, model: str, consumer: str) -> Scope:
        return Scope(self._naming.name(provider, {"model": model}), model, consumer)

    def _check(self, **labels: str) -> None:
        for name, text in labels.items():
            check_label(name, text, self._service.config.limits.label_length)


def parameters(query: bytes) -> dict[str, str]:
    """As Starlette reads them."""
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def reply_of(answer: CachedAnswer) -> Reply:
    """What is answered, for a client that may keep it and ask whether it has changed."""
    return Reply(200, answer.body, etag=answer.etag, headers={"cache-control": "no-cache"})


def _answered(answer: CachedAnswer) -> Answered:
    return reply_of(answer), answer.until
