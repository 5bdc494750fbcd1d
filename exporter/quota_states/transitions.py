"""How often scopes came into and out of their states."""

import logging
from collections import Counter

from exporter.core.moment import rfc3339
from exporter.core.quota_state import AVAILABLE, Reason, State, View, transition
from exporter.core.scope import Scope

log = logging.getLogger("exporter")


class Transitions:
    """Counts and logs what a scope is seen in that it was not seen in before.

    Attributes:
        counts: (scope, state, reason) -> how often it came to that.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Scope, State, Reason]] = Counter()
        self._seen: dict[Scope, View] = {}

    def remember(self, scope: Scope, view: View) -> None:
        """What is known of a scope is no news."""
        self._seen[scope] = view

    def forget(self, scope: Scope) -> None:
        """Whatever is heard of a scope next is news."""
        self._seen.pop(scope, None)

    def notice(self, scope: Scope, after: View) -> None:
        """Take notice of what a scope is in now."""
        before = self._seen.get(scope, AVAILABLE)
        self._seen[scope] = after
        changed = transition(before, after)
        if changed is None:
            return
        state, reason = changed
        self.counts[scope, state, reason] += 1
        fields = {name: value for name, value in scope._asdict().items() if value}
        fields |= {"state": state.value, "reason": reason.value}
        if after.retry_at is not None:
            fields["retry_after"] = rfc3339(after.retry_at)
        if after.detail:
            fields["because"] = after.detail
        log.info("state changed", extra={"fields": fields})
