"""Routes by which operators change for a while what a budget allows, and what predictions do."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.config.readers import MAX_AMOUNT, exact
from exporter.core.budget import Budget, BudgetUnit
from exporter.core.overrides import Amount, Silence, key_of
from exporter.core.scope import Scope
from exporter.intake.batching import check_label
from exporter.overrides import Document
from exporter.web import views
from exporter.web.operate import ahead, check_reason, decoded
from exporter.web.provider_route import ProviderRoute
from exporter.web.site import Site

T = TypeVar("T")


class NewAmount(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /v1/providers/{provider}/budget`.

    Attributes:
        amount: what it is to be, in the budget's unit: a number, or a text such as `3M`; null
            takes an operator's earlier word back.
        until: with an amount: RFC 3339, Unix seconds, or a duration such as `2h`.
        period: which budget, where the provider has several.
        unit: the same: `tokens`, `requests` or `usd`.
        model: the same: as the configuration has it, several with `|` between them.
        consumer: the same.
        per: the same: `model` or `consumer`, of a budget for every one of them.
        reason: a few words that are shown with it.
    """

    amount: int | float | str | None
    until: float | str | None = None
    period: str = ""
    unit: str = ""
    model: str = ""
    consumer: str = ""
    per: str = ""
    reason: str = ""


class NewSilence(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /v1/providers/{provider}/silence`.

    Attributes:
        until: RFC 3339, Unix seconds, or a duration such as `2h`; null ends it.
        model: which budgets it is about, a name or a pattern of models; absent: all.
        consumer: the same.
        reason: a few words that are shown with it.
    """

    until: float | str | None
    model: str = ""
    consumer: str = ""
    reason: str = ""


def override_routes(site: Site) -> list[Route]:
    """The routes; they are more special than those of a provider."""
    routes = _OverrideRoutes(site)
    return [
        ProviderRoute("/v1/providers/{provider:path}/budget", routes.set_amount, methods=["PUT"]),
        ProviderRoute("/v1/providers/{provider:path}/silence", routes.silence, methods=["PUT"]),
    ]


class _OverrideRoutes:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def set_amount(self, request: Request) -> Response:
        service = self._site.service
        name, now = self._provider(request, service.config.budgets), self._site.clock()
        wish = await self._wish(request, NewAmount)
        names = ("period", "unit", "model", "consumer", "per")
        given = {field: value for field in names if (value := getattr(wish, field))}
        try:
            check_reason(wish.reason)
            key, unit = key_of(name, service.config.budgets[name], given)
            if wish.amount is None:
                if wish.until is not None:
                    raise ValueError("until: only with an amount")
                amount = Amount(0, 0.0, wish.reason)
            else:
                until = ahead("until", wish.until, now)
                amount = Amount(_amount(wish.amount, unit), until, wish.reason)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return await self._override(name, service.overrides.set_amount(key, amount))

    async def silence(self, request: Request) -> Response:
        service = self._site.service
        name, now = self._provider(request, service.usage.ledger.index.budgets), self._site.clock()
        wish = await self._wish(request, NewSilence)
        try:
            check_reason(wish.reason)
            for what, text in (("model", wish.model), ("consumer", wish.consumer)):
                check_label(what, text, service.config.limits.label_length)
            until = 0.0 if wish.until is None else ahead("until", wish.until, now)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        scope = Scope(name, wish.model, wish.consumer)
        silence = Silence(until, wish.reason)
        return await self._override(name, service.overrides.silence(scope, silence))

    def _provider(self, request: Request, budgets: Mapping[str, Sequence[Budget]]) -> str:
        """The name of a provider that has one of `budgets`."""
        name = self._site.ingest.naming.name(request.path_params["provider"])
        if not budgets.get(name):
            raise HTTPException(404, f"provider: expected one with a budget, got {name!r:.64}")
        return name

    async def _wish(self, request: Request, kind: type[T]) -> T:
        limits = self._site.service.config.limits
        async with self._site.bodies.read(request, limits) as body:
            try:
                return decoded(body, kind)
            except ValueError as error:
                raise HTTPException(400, str(error)) from error

    async def _override(self, provider: str, document: Document) -> Response:
        service = self._site.service
        await service.override(document)
        view = (await service.refresh(self._site.clock(), [provider]))[provider]
        return Response(msgspec.json.encode(views.provider(view)), media_type="application/json")


def _amount(given: float | str, unit: BudgetUnit) -> int:
    """What a budget counts inside, of an amount in its unit."""
    number = exact(str(given))
    amount = None if number is None else number * unit.scale
    if amount is None or amount != int(amount) or not 1 <= amount <= MAX_AMOUNT:
        raise ValueError(f"amount: expected a positive number such as 3M, got {given!r:.64}")
    return int(amount)
