"""Hears from Redis that somebody committed: a hint to look, so that nobody has to ask all the time.

Hints may be lost, and so may the connection without a word. The truth is in the log of commits,
which readers go on reading now and then.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import RedisClusterException

CHANNEL = "llmq:committed"
"""Where `commit.lua` publishes."""

LISTEN_SECONDS = 30.0  # with one connection, when nothing is heard
_TURN = 0.5  # seconds until it is seen that this is to end
_PAUSE = 1.0  # seconds before another try

log = logging.getLogger("exporter")


class Hints:
    """A thread that listens.

    Args:
        client: a Redis, or a cluster.
        notify: is called, in this thread, when something may have been committed.
    """

    def __init__(self, client: Any, notify: Callable[[], None]) -> None:
        self._client = client
        self._notify = notify
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with self._client.pubsub() as connection:
                    connection.subscribe(CHANNEL)
                    self._listen(connection)
            # Whoever commits or reads says what is wrong with the server.
            except (redis.RedisError, RedisClusterException, OSError):
                self._closing.wait(_PAUSE)
            # redis-py raises a TypeError where its socket is closed while it looks for data.
            except Exception:
                log.exception("listening for commits failed, and is tried again")
                self._closing.wait(_PAUSE)

    def _listen(self, connection: Any) -> None:
        # The first message says that it listens: what was committed meanwhile was missed.
        silent = 0.0
        while silent < LISTEN_SECONDS and not self._closing.is_set():
            if connection.get_message(timeout=_TURN) is None:
                silent += _TURN
            else:
                silent = 0.0
                self._notify()
