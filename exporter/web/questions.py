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
from exporter.web import views
from exporter.web.provider_route import about

PROVIDER = "/v1/providers/{provider}"
EXHAUSTED = "/v1/exhausted"
AVAILABILITY = "/v1/availability"

MAX_VIEWS = 2000
"""Providers of which the JSON is kept."""

_ONE = PROVIDER.partition("{")[0]
_ASKED = {"provider", "model", "consumer"}


class Question(NamedTuple):
    """One that was understood.

    Attributes:
        route: the template of its path.
        answer: what is known at a moment; the same object as before where nothing changed.
    """

    route: str
    answer: Callable[[float], CachedAnswer]


class Questions:
    """Understands requests; every method raises `ValueError` where one makes no sense.

    Args:
        service: knows the answers.
        naming: under which names.
    """

    def __init__(self, service: Service, naming: Naming) -> None:
        self._service = service
        self._naming = naming
        self._shown: dict[str, tuple[int, CachedAnswer]] = {}

    def at(self, target: bytes) -> Question | None:
        """What `GET target` asks; None for other requests."""
        raw, _, query = target.partition(b"?")
        path = unquote(raw.decode("ascii"))
        if path == EXHAUSTED:
            return self.exhausted(_parameters(query))
        if path == AVAILABILITY:
            return self.availability(_parameters(query))
        if path.startswith(_ONE) and not about(raw):
            return self.provider(path.removeprefix(_ONE))
        return None

    def provider(self, name: str) -> Question:
        """All that is known of one provider."""
        if not name:
            raise ValueError("provider: expected a name, got ''")
        self._check(provider=name)
        return Question(PROVIDER, partial(self.shown, self._naming.name(name)))

    def exhausted(self, parameters: Mapping[str, str]) -> Question:
        """Of whom nothing can be had."""
        text = parameters.get("include_elapsed", "false")
        if text not in ("true", "false"):
            raise ValueError(f"include_elapsed: expected true or false, got {text[:64]!r}")
        known = self._service.availability
        return Question(EXHAUSTED, partial(known.exhausted, include_elapsed=text == "true"))

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
            return Question(AVAILABILITY, known.all)
        if not provider:
            raise ValueError("provider: expected a name beside model and consumer")
        name = self._naming.name(provider, {"model": model})
        return Question(
            AVAILABILITY, partial(known.of, Scope(name, model, parameters.get("consumer", "")))
        )

    def shown(self, name: str, now: float) -> CachedAnswer:
        """A provider, by its canonical name, as JSON."""
        known = self._service.provider_views
        revision = known.revision(name)
        kept = self._shown.get(name)
        if kept is not None and kept[0] == revision and now < kept[1].until:
            return kept[1]
        view = known.of(name, now)
        answer = tagged(msgspec.json.encode(views.provider(view)), ends_at(view))
        if len(self._shown) >= MAX_VIEWS:
            self._shown.clear()
        self._shown[name] = (revision, answer)
        return answer

    def _check(self, **labels: str) -> None:
        for name, text in labels.items():
            check_label(name, text, self._service.config.limits.label_length)


def _parameters(query: bytes) -> dict[str, str]:
    """As Starlette reads them."""
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
