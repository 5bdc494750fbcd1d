"""What every request meets first: who may, how much, and with which headers it is answered."""

from collections.abc import Callable

from exporter.service import Service
from exporter.web.body import Bodies
from exporter.web.ingest import Ingest
from exporter.web.reply import ONE, Reply, encode_reply
from exporter.web.toolkit.auth import Authoriser, Decision, Right
from exporter.web.toolkit.ratelimit import RateLimiter
from exporter.web.toolkit.webconfig import WebConfig


class Site:
    """The web side of a service under its present configuration.

    Attributes:
        service: the owner of all state.
        clock: Unix seconds.
        ingest: where pushes enter.
        bodies: what requests on the ordinary way have in hand.
        authoriser: who may do what.
        connections: how many may be open.
        body_bytes: how many a request may have.
        headers: added to every answer.
    """

    def __init__(
        self,
        service: Service,
        clock: Callable[[], float],
        web: WebConfig,
        authoriser: Authoriser,
    ) -> None:
        self.service = service
        self.clock = clock
        self.bodies = Bodies()
        self.configure(web, authoriser)

    def configure(self, web: WebConfig, authoriser: Authoriser) -> None:
        """Take over a changed configuration; the service's own has been put in force before."""
        self.authoriser = authoriser
        self.ingest = Ingest(self.service, self.clock)
        self.connections = self.service.config.limits.connections
        self.body_bytes = self.service.config.limits.body_bytes
        self.headers = web.headers
        self._lines = b"".join(name + b": " + value + b"\r\n" for name, value in web.headers)
        self._one = encode_reply(ONE, self._lines)
        self._limiter = RateLimiter(web.rate_limit, self.clock()) if web.rate_limit else None

    def admits(self, authorization: bytes | None) -> bool:
        """Whether a push may enter at once; when not, the ordinary way finds out why."""
        if self._limiter is not None:
            return False
        if not self.authoriser.required:
            return True
        return self.authoriser.allowed(authorization, Right.PUSH) is Decision.GRANTED

    def within_rate(self) -> bool:
        """Take a request's share of the rate limit, if there is one."""
        return self._limiter is None or self._limiter.allow(self.clock())

    def encode_reply(self, reply: Reply) -> bytes:
        """An answer to a push, as it goes over the wire."""
        # Nearly every single push is answered by the same bytes.
        return self._one if reply is ONE else encode_reply(reply, self._lines)
