"""A process to be killed: counts one event per number, and prints each number once it is durable.

Arguments: the store's URL, and the first number.
"""

import sys
import time

from exporter.storage import history, identities, open_store
from exporter.storage.contract import DedupEntry
from tests.storage.conftest import DEDUPLICATION, RETENTION
from tests.storage.values import SLOT, cell_of, claim, claiming

# Folding and merging are then as likely moments to die in as any other.
history.FOLD_CELLS, history.SLICE, identities.MANY, identities.SLICE = 40, 5, 30, 3


def numbered(number: int) -> DedupEntry:
    """The event of that number, one token in one of many cells."""
    return claim(number, 1, cell_of(f"openai-{number % 5}", str(number % 7), SLOT - number % 100))


def main(url: str, first: int) -> None:
    now = time.time()
    store = open_store(url, retention=RETENTION, deduplication=DEDUPLICATION, now=now)
    number = first
    while True:
        store.commit([claiming(numbered(number))], now)
        print(number, flush=True)
        store.tidy(now)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
