"""Answers that are known without work, found by the target of their request."""

from typing import NamedTuple

from exporter.availability import CachedAnswer
from exporter.web.questions import Question, Questions
from exporter.web.reply import Reply, encode_reply, unless_known

MAX_KEPT = 20_000
"""Targets that are remembered with their answers."""

MAX_TARGET = 1024
"""Bytes of the longest target that is looked at."""

MAX_KEPT_BYTES = 32 * 2**20
"""Bytes of all these answers."""


class Found(NamedTuple):
    """An answer as it goes over the wire.

    Attributes:
        route: the template of the path that was asked.
        status: HTTP status.
        head: up to the blank line.
        body: what follows it.
    """

    route: str
    status: int
    head: bytes
    body: bytes


class Lookups:
    """Not for concurrent use; made anew with every configuration.

    Args:
        questions: understands targets.
        lines: headers that are added to every answer.
    """

    def __init__(self, questions: Questions, lines: bytes) -> None:
        self._questions = questions
        self._lines = lines
        self._known: dict[bytes, Question | None] = {}
        self._found: dict[bytes, tuple[CachedAnswer, Found]] = {}
        self._bytes = 0

    def find(self, target: bytes, if_none_match: bytes | None, now: float) -> Found | None:
        """The answer to `GET target`; None where it is no such question, or makes no sense."""
        try:
            question = self._known[target]
        except KeyError:
            question = self._understand(target)
        if question is None:
            return None
        answer = question.answer(now)
        if if_none_match is not None:
            return self.encode(question.route, unless_known(reply_of(answer), if_none_match))
        kept = self._found.get(target)
        if kept is not None and kept[0] is answer:
            return kept[1]
        found = self.encode(question.route, reply_of(answer))
        self._bytes += len(found.body)
        if self._bytes > MAX_KEPT_BYTES:
            self._found.clear()
            self._bytes = len(found.body)
        self._found[target] = (answer, found)
        return found

    def encode(self, route: str, reply: Reply) -> Found:
        """An answer as it goes over the wire."""
        head = encode_reply(reply, self._lines, head_only=True)
        return Found(route, reply.status, head, reply.body)

    def _understand(self, target: bytes) -> Question | None:
        if len(target) > MAX_TARGET:
            return None
        try:
            question = self._questions.at(target)
        except ValueError:  # the ordinary way says what is wrong
            question = None
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
            self._found.clear()
            self._bytes = 0
        self._known[target] = question
        return question


def reply_of(answer: CachedAnswer) -> Reply:
    """What is answered."""
    return Reply(200, answer.body, etag=answer.etag, headers={"cache-control": "no-cache"})
