"""What one question to the client's copy costs, in nanoseconds of one thread.

    python -m tests.benchmarks.client_questions

A copy of 1,000 providers with ten scopes each. "changing" answers while an exporter reports a
hundred changes a second, each of which forgets the answers about one provider.
"""

import statistics
import threading
import timeit
from collections.abc import Callable
from itertools import count, cycle

from exporter.client import Availability
from tests.client.states_server import StatesServer, out

PROVIDERS, MODELS = 1_000, 10
ROUNDS, CALLS = 9, 100_000


def measure(name: str, ask: Callable[[], object], calls: int = CALLS) -> None:
    """Print the median and the worst of some rounds."""
    rounds = [each / calls * 1e9 for each in timeit.repeat(ask, number=calls, repeat=ROUNDS)]
    print(f"{name:44}{statistics.median(rounds):9.0f} ns  worst round {max(rounds):9.0f} ns")


def main() -> None:
    """Print the table."""
    server = StatesServer()
    server.set(*(out(f"p{p}", model=f"m{m}*") for p in range(PROVIDERS) for m in range(MODELS)))
    with server.serving() as url, Availability(url) as availability:
        assert availability.wait(20)
        allows = availability.allows
        measure("allows, available", lambda: allows("p1", "other", "team"))
        measure("allows, exhausted", lambda: allows("p1", "m1", "team"))
        pairs = cycle([(f"p{p}", f"m{m}") for p in range(PROVIDERS) for m in range(8)])
        measure("allows, 8,000 different in turn", lambda: allows(*next(pairs)))
        names = map(str, count())
        measure("allows, never asked before", lambda: allows("p1", next(names)), CALLS // 10)
        three = ["p1", ("p2", "m2"), "p3"]
        measure("choose of three", lambda: availability.choose(three))
        done = threading.Event()

        def change() -> None:
            for number in count():
                server.set(out(f"p{number % PROVIDERS}", model="changing"))
                if done.wait(0.01):
                    return

        thread = threading.Thread(target=change)
        thread.start()
        measure("allows, 8,000 different in turn, changing", lambda: allows(*next(pairs)))
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
