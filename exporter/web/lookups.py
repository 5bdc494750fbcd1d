"""Answers that are known without work, as they go over the wire."""

import re
from typing import NamedTuple

from exporter.core.histogram import Histogram
from exporter.web import authorize
from exporter.web.questions import ALL, AVAILABILITY, PROVIDER, Question, Questions, parameters
from exporter.web.ready import ReadyAnswers
from exporter.web.reply import Reply, encode_reply, unless_known
from exporter.web.request_metrics import RequestMetrics

MAX_KEPT = 20_000
"""Targets that are remembered with what they ask."""

MAX_TARGET = 1024
"""Bytes of the longest target that is looked at."""

_AUTHORIZE = authorize.PATH.encode()
_METHODS = frozenset(method.encode() for method in authorize.METHODS)
_TARGET = re.compile(rb"""[!"$-~]+""")
"""What needs no parser: without blanks, and without the # that begins what is not sent."""


class LookupHeaders(NamedTuple):
    """What the head of a request without a body said.

    Attributes:
        if_none_match: the header of that name.
        authorization: the header of that name.
        asked: what a gateway asks about.
        lasting: whether the same head may come again.
    """

    if_none_match: bytes | None = None
    authorization: bytes | None = None
    asked: authorize.Asked = ("", "", "")
    lasting: bool = True


class Found(NamedTuple):
    """An answer as it goes over the wire.

    Attributes:
        observed: where its request is counted.
        head: up to the blank line.
        whole: the head and the body after it.
        reply: the same without its body.
        until: Unix seconds from which it may no longer be true.
    """

    observed: Histogram
    head: bytes
    whole: bytes
    reply: Reply
    until: float

    @property
    def size(self) -> int:
        return len(self.whole)


class Lookups:
    """Not for concurrent use; made anew with every configuration.

    Args:
        questions: understands targets.
        lines: headers that are added to every answer.
        requests: where requests are counted.
    """

    def __init__(self, questions: Questions, lines: bytes, requests: RequestMetrics) -> None:
        self._questions = questions
        self._lines = lines
        self._requests = requests
        self._known: dict[bytes, Question | None] = {}
        self._ready = ReadyAnswers[Found]()

    def find(self, target: bytes, if_none_match: bytes | None, now: float) -> Found | None:
        """The answer to `GET target`; None where it is no such question, or makes no sense."""
        asked = target if if_none_match is None else (target, if_none_match)
        found = self._ready.get(asked, now)
        if found is not None:
            return found
        question = self._question(target)
        if question is None:
            return None
        whole = None if if_none_match is None else self.find(target, None, now)
        if whole is None:
            found = self.encode(question.route, *question.answer(now))
        else:
            reply = unless_known(whole.reply, if_none_match)
            if reply is whole.reply:
                return whole
            found = self.encode(question.route, reply, whole.until)
        self._ready.put(asked, question.topic, found)
        return found

    def authorize(
        self, method: bytes, target: bytes, asked: authorize.Asked, now: float
    ) -> Found | None:
        """The answer to a gateway; None where it did not ask for one, or makes no sense."""
        if method not in _METHODS:
            return None
        found = self._ready.get((target, asked), now)
        if found is None:
            path, _, query = target.partition(b"?")
            if not (path == _AUTHORIZE or path.startswith(_AUTHORIZE + b"/")):
                return None
            if b"%" in path or not _TARGET.fullmatch(target) or len(target) > MAX_TARGET:
                return None
            try:
                question = self._questions.authorize(asked, parameters(query))
            except ValueError:  # the ordinary way says what is wrong
                return None
            found = self.encode(question.route, *question.answer(now))
            self._ready.put((target, asked), question.topic, found)
        return found

    def encode(self, route: str, reply: Reply, until: float) -> Found:
        """An answer as it goes over the wire."""
        head = encode_reply(reply, self._lines, head_only=True)
        observed = self._requests.of(route, reply.status)
        return Found(observed, head, head + reply.body, reply._replace(body=b""), until)

    def outdate_view(self, provider: str | None) -> None:
        """What is shown of a provider, or of each, may be another than it was."""
        if provider is None:
            self._ready.clear()
            self._questions.outdate_all()
        else:
            self._ready.outdate((PROVIDER, provider))
            self._questions.outdate((PROVIDER, provider))

    def outdate_availability(self, provider: str) -> None:
        """Something else is to be said of a provider's availability than before."""
        self._ready.outdate((AVAILABILITY, provider))
        self._ready.outdate((AVAILABILITY, ALL))

    def _question(self, target: bytes) -> Question | None:
        try:
            return self._known[target]
        except KeyError:
            return self._understand(target)

    def _understand(self, target: bytes) -> Question | None:
        if len(target) > MAX_TARGET or not _TARGET.fullmatch(target):
            return None
        try:
            question = self._questions.at(target)
        except ValueError:  # the ordinary way says what is wrong
            question = None
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
        self._known[target] = question
        return question
