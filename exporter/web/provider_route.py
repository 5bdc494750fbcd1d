"""Paths with the name of a provider in them."""

import re

from starlette.routing import Match, Route
from starlette.types import Scope

_ABOUT = re.compile(rb"/v1/providers/.*(/state|/budget|/silence|/explain)$")


def about(raw_path: bytes) -> str:
    """What a path asks or says about a provider, as in `/state`; empty for the provider itself."""
    found = _ABOUT.search(raw_path)
    return found[1].decode() if found else ""


class ProviderRoute(Route):
    """A route about one provider, whose name may have slashes in it.

    `/v1/providers/a/state` is the state of `a`, and `/v1/providers/a%2Fstate` is `a/state`: only
    the path as it was sent tells them apart.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether, and how, the route is meant."""
        if self.path != "/v1/providers/{provider:path}" + about(scope["raw_path"]):
            return Match.NONE, {}
        return super().matches(scope)
