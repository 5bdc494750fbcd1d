"""LiteLLM's router leaves out deployments that have run out of quota.

    litellm_settings:
      callbacks: [exporter.client.litellm.quota_filter]

The proxy finds the exporter by `LLM_QUOTA_EXPORTER_URL`; a program hands its own `QuotaFilter` to
`litellm.callbacks`. Only this module imports LiteLLM.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from exporter.client.availability import Availability

_PREFIX = "LLM_QUOTA_EXPORTER_"
_CONSUMERS: Mapping[str, Sequence[str]] = {
    "team": ("user_api_key_team_alias", "user_api_key_team_id"),
    "key_alias": ("user_api_key_alias",),
    "key_hash": ("user_api_key_hash", "user_api_key"),
}
"""Attribute of the exporter's `consumer` setting -> where LiteLLM has it."""

log = logging.getLogger("exporter.client")


class QuotaFilter(CustomLogger):  # type: ignore[misc]  # mypy does not follow litellm, see pyproject.toml
    """Drops deployments of which the exporter says that they are out, unless all of them are.

    A deployment is asked for under its LiteLLM provider and model. One whose API key has a quota of
    its own says so: `model_info: {quota_provider: openai-team-b}`, the name its usage counts under.
    Nothing waits and nothing raises: see `Availability`.

    Args:
        availability: the copy that is asked.
        consumer: which attribute names who asks: the first that a request carries, in the order
            that the exporter's configuration has.

    Raises:
        ValueError: an attribute that LiteLLM does not have.
    """

    def __init__(
        self, availability: Availability, consumer: Sequence[str] = ("team", "key_alias")
    ) -> None:
        super().__init__()
        for name in consumer:
            if name not in _CONSUMERS:
                raise ValueError(f"consumer: expected of {', '.join(_CONSUMERS)}, got {name!r}")
        self.availability = availability
        self._fields = [field for name in consumer for field in _CONSUMERS[name]]

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Called by LiteLLM's router for every request, with what it would choose from."""
        try:
            consumer = self._consumer(request_kwargs or {})
            allowed = [one for one in healthy_deployments if self._allows(one, consumer)]
        except Exception as error:  # a filter must not stop the traffic
            log.debug("deployments went unfiltered: %s", type(error).__name__)
            return healthy_deployments
        return allowed or healthy_deployments

    def _allows(self, deployment: Mapping[str, Any], consumer: str) -> bool:
        params = deployment["litellm_params"]
        provider, model = _provider_and_model(
            params.get("model") or "", params.get("custom_llm_provider"), params.get("api_base")
        )
        own = (deployment.get("model_info") or {}).get("quota_provider")
        return self.availability.allows(own or provider, model, consumer)

    def _consumer(self, request: Mapping[str, Any]) -> str:
        known = {**(request.get("litellm_metadata") or {}), **(request.get("metadata") or {})}
        return next((known[field] for field in self._fields if known.get(field)), "")


@lru_cache(maxsize=4096)
def _provider_and_model(model: str, provider: str | None, api_base: str | None) -> tuple[str, str]:
    """What LiteLLM reports the usage of a deployment under."""
    try:
        name, resolved, *_ = litellm.get_llm_provider(model, provider, api_base)
    except Exception:  # it raises errors of its own for a model of which it knows no provider
        return provider or model.partition("/")[0], model
    return resolved, name


def from_environment(environment: Mapping[str, str] = os.environ) -> QuotaFilter:
    """A filter for a proxy, which configures callbacks by name alone.

    Reads `LLM_QUOTA_EXPORTER_URL` (default `http://localhost:10042`), `…_TOKEN_FILE`, `…_MAX_AGE`
    (seconds, see `Availability`) and `…_CONSUMER` (attributes, comma-separated).

    Raises:
        OSError, ValueError: a value cannot be used.
    """
    given = {
        name.removeprefix(_PREFIX): value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and value
    }
    file = given.get("TOKEN_FILE")
    availability = Availability(
        given.get("URL", "http://localhost:10042"),
        token=Path(file).read_text("ascii").strip() if file else None,
        max_age=float(given.get("MAX_AGE", "60")),
    )
    return QuotaFilter(availability, given.get("CONSUMER", "team,key_alias").split(","))


def __getattr__(name: str) -> QuotaFilter:
    """`quota_filter`, made when the proxy asks for it: importing alone starts no thread."""
    if name != "quota_filter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = from_environment()
    return made
