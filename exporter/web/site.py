"""What every request meets first: who may, how much, and with which headers it is answered."""

from collections.abc import Callable, Mapping
from math import inf

from exporter.intake import native
from exporter.intake.format import JSON_TYPES, Client
from exporter.intake.ingest import Ingest
from exporter.intake.outcome import ACCEPTED_ONE, Outcome
from exporter.intake.rejections import RejectionLog
from exporter.service import Service
from exporter.web import authorize
from exporter.web.address import Address
from exporter.web.body import Bodies
from exporter.web.lookups import Found, LookupHeaders, Lookups
from exporter.web.outstanding import Outstanding
from exporter.web.questions import Questions
from exporter.web.reply import Reply, code_of, encode_reply, reply_to
from exporter.web.request_metrics import RequestMetrics
from exporter.web.toolkit.auth import Authoriser, Decision, Right
from exporter.web.toolkit.ratelimit import RateLimiter
from exporter.web.toolkit.webconfig import WebConfig
from exporter.web.watch import Watchers

HEALTH = "/-/healthy"
_HEALTH = HEALTH.encode()
_AUTHORIZE = authorize.PATH.encode()

HEALTHY = Reply(200, b"llm-quota-exporter is healthy.\n", "", "text/plain; charset=utf-8")
"""The answer of `/-/healthy`."""


class Site:
    """The web side of a service under its present configuration.

    Attributes:
        service: the owner of all state.
        clock: Unix seconds.
        address: where clients reach it.
        ingest: where pushes are taken in.
        questions: of routers, and their answers.
        watchers: who is told of every change.
        bodies: what requests on the ordinary way have in hand.
        authoriser: who may do what.
        outstanding: the bytes that all connections have in hand.
        connections: how many may be open.
        body_bytes: how many a request may have.
        request_timeout: seconds a request may take to arrive.
        headers: added to every answer.
        requests: all that were answered.
        failing: what is wrong in the background: task -> the type of its last error.
    """

    def __init__(
        self,
        service: Service,
        clock: Callable[[], float],
        web: WebConfig,
        authoriser: Authoriser,
        address: Address = Address(),  # noqa: B008 - it does not change
    ) -> None:
        self.service = service
        self.clock = clock
        self.address = address
        self._prefix = address.prefix.encode()
        self._begin = len(self._prefix)
        self.requests = RequestMetrics()
        self._observe_one = self.requests.of(native.FORMAT.path, 200).observe
        self.failing: Callable[[], Mapping[str, str]] = dict
        self.outstanding = Outstanding(service.config.limits.outstanding_bytes)
        self.bodies = Bodies(self.outstanding)
        self._rejections = RejectionLog()
        self.ingest = Ingest(service, clock)
        self.watchers = Watchers(service, clock, lambda: self.ingest.naming.names())
        self.configure(web, authoriser)

    def configure(self, web: WebConfig, authoriser: Authoriser) -> None:
        """Take over a changed configuration; the service's own has been put in force before."""
        self.authoriser = authoriser
        self.ingest = Ingest(self.service, self.clock, self.ingest)
        limits = self.service.config.limits
        self.connections = limits.connections
        self.body_bytes = limits.body_bytes
        self.request_timeout = limits.request_timeout
        self.outstanding.limit = limits.outstanding_bytes
        self.headers = web.headers
        lines = (name.lower() + b": " + value + b"\r\n" for name, value in web.headers)
        self._lines = b"".join(lines)
        self._accepted_one = self._encode(ACCEPTED_ONE)
        self.questions = Questions(self.service, self.ingest.naming)
        self._lookups = Lookups(self.questions, self._lines, self.requests)
        self._healthy = self._lookups.encode(HEALTH, HEALTHY, inf)
        self.service.provider_views.outdated = self._lookups.outdate_view
        self.service.availability.outdated = self._lookups.outdate_availability
        self.watchers.restart(authoriser)  # names may be others, too
        self._limiter = RateLimiter(web.rate_limit, self.clock()) if web.rate_limit else None

    def admits(self, authorization: bytes | None) -> bool:
        """Whether a push may enter at once; when not, the ordinary way finds out why."""
        if self._limiter is not None:
            return False
        if not self.authoriser.required:
            return True
        return self.authoriser.allowed(authorization, Right.PUSH) is Decision.GRANTED

    def client(self, address: str, authorization: bytes | str | None) -> Client:
        """Who sends a push, once it is granted that it may."""
        if authorization is None or not self.authoriser.required:
            return Client(address)
        if isinstance(authorization, str):
            authorization = authorization.encode("latin-1")
        return Client(address, self.authoriser.name(authorization))

    def refuse_http_2(self, client: str) -> None:
        """Say in the log who speaks gRPC, most likely, where HTTP/1.1 is spoken: many SDKs do so
        unless they are told otherwise, and none of them tells anybody that it got nowhere."""
        why = "expected HTTP/1.1: for OTLP over gRPC there is --otlp.grpc-address"
        self._rejections.add("http_2", client, 1, why, self.clock())

    def within_rate(self) -> bool:
        """Take a request's share of the rate limit, if there is one."""
        return self._limiter is None or self._limiter.allow(self.clock())

    def lookup(self, method: bytes, target: bytes, said: LookupHeaders) -> Found | None:
        """The answer to a request without a body, where it is known without work; None sends it
        the ordinary way, which also finds out why somebody may not have it.

        `target` is a path with its query, as it was sent.
        """
        if self._limiter is not None or not target.startswith(self._prefix):
            return None
        target = target[self._begin :]
        reads = method == b"GET" or method == b"HEAD"
        if reads and target == _HEALTH:
            return None if self.failing() else self._healthy
        if self.authoriser.required:
            decision = self.authoriser.allowed(said.authorization, Right.READ)
            if decision is not Decision.GRANTED:
                return None
        if target.startswith(_AUTHORIZE):
            return self._lookups.authorize(method, target, said.asked, self.clock())
        if not reads:
            return None
        return self._lookups.find(target, said.if_none_match, self.clock())

    def answer_push(self, outcome: Outcome, seconds: float) -> bytes:
        """The answer to a small push, as it goes over the wire; counts it, and the time it took."""
        if outcome is ACCEPTED_ONE:  # nearly every single push: by the same bytes
            self._observe_one(seconds)
            return self._accepted_one
        self.requests.of(native.FORMAT.path, code_of(outcome)).observe(seconds)
        return self._encode(outcome)

    def _encode(self, outcome: Outcome) -> bytes:
        return encode_reply(reply_to(native.FORMAT, outcome, JSON_TYPES[0]), self._lines)
