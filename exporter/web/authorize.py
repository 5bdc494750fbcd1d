"""Auth subrequests of HTTP gateways: may this request go to that provider?

What nginx calls `auth_request` and Envoy `ext_authz` over HTTP: a status, without a body to read.
https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
"""

import math
from collections.abc import Mapping

from exporter.core.moment import rfc3339
from exporter.core.views import ScopeView
from exporter.web.reply import Reply, failure

PATH = "/v1/authorize"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Envoy asks with the method, and below the path, of the request it has in hand."""

PROVIDER = "x-provider"
HEADERS = (PROVIDER, "x-model", "x-consumer")

Asked = tuple[str, str, str]
"""What `HEADERS` say: provider, model and consumer, each of which may be empty."""

_ALLOWED = Reply(200, b"", media_type="")
_DENIALS = {"403": 403, "429": 429}
"""nginx takes only 401 and 403 for a no."""


def denied_status(parameters: Mapping[str, str]) -> int:
    """The status of a no, by the parameters of the request.

    Raises:
        ValueError: it cannot be that.
    """
    text = parameters.get("denied", "429")
    if text not in _DENIALS:
        raise ValueError(f"denied: expected 403 or 429, got {text[:64]!r}")
    return _DENIALS[text]


def answer(provider: str, met: ScopeView, now: float, denied: int) -> tuple[Reply, float]:
    """200, or `denied` with `Retry-After` in whole seconds, and why; and Unix seconds from which
    that may no longer be true."""
    state = met.view
    if state.retry_at is None:
        return _ALLOWED, met.until
    seconds = max(1, math.ceil(state.retry_at - now))
    why = f"{provider} is out of quota ({state.reason}) until {rfc3339(state.retry_at)}"
    return failure(denied, why, str(seconds)), min(met.until, state.retry_at - seconds + 1)
