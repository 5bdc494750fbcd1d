"""How what is in Redis in an older layout is brought to the present one.

A change of layout is one more function at the end of `MIGRATIONS`. Each consists of scripts that
may be called again: replicas that start together may all call them, after a crash the next start
goes on where they ended, and what a replica of an older version still counts is taken over the
next time. Only when all is done the layout is noted.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from exporter.storage.contract import StorageError
from exporter.storage.redis_link import Link, Script

OLDEST = 2
"""The first layout that anybody has; it is not noted anywhere."""

ATTEMPTS = 10

_LAYOUT = "llmq:layout"

_MIGRATE, _MIGRATE_DOCUMENTS = Script("migrate.lua"), Script("migrate_documents.lua")


class Place(NamedTuple):
    """Where everything is.

    Attributes:
        link: the server.
        providers: prefix -> provider.
        homes: prefix -> home of its log.
        documents: the prefix of documents.
    """

    link: Link
    providers: Mapping[str, str]
    homes: Mapping[str, str]
    documents: str


def _key_usage_by_series(place: Place) -> bool:
    """2 to 3: blocks and sums belong to series; what changed is in a log.

    Blocks were not told apart by model: they become history of the provider's series without a
    model. Totals keep their models.
    """

    def labels(*values: str) -> str:
        return msgspec.json.encode([*values[:-1], *filter(None, values[-1:])]).decode()

    link, found = place.link, False
    link.run([_MIGRATE_DOCUMENTS.call([place.documents])])
    for prefix, provider in place.providers.items():
        for _ in range(ATTEMPTS):
            fields = link.client.hkeys(f"{prefix}:totals")
            models = {field.decode().partition(":")[2] for field in fields}
            series = msgspec.msgpack.encode({model: labels(provider, model) for model in models})
            keys = [prefix, place.homes[prefix]]
            (there,) = link.run([_MIGRATE.call(keys, series, labels(provider, ""), 2**61 - 1)])
            if there is not None:
                found = found or bool(there)
                break
        else:
            raise StorageError(f"{link.where}: replicas of an older version count new models")
    return found


MIGRATIONS: tuple[Callable[[Place], bool], ...] = (_key_usage_by_series,)
"""From `OLDEST` to the next layout, from there to the next, and so on; each says whether there was
anything of its older layout."""

LAYOUT = OLDEST + len(MIGRATIONS)


def migrate(place: Place, new: bool) -> int | None:
    """Bring what there is to the present layout; the one it had, None when there was nothing to do.

    Args:
        place: where everything is.
        new: there was nothing before.

    Raises:
        StorageError: it is of a layout that this version does not know.
    """
    client = place.link.client
    if new:
        client.set(_LAYOUT, LAYOUT, nx=True)
    layout = int(client.get(_LAYOUT) or OLDEST)
    if not OLDEST <= layout <= LAYOUT:
        raise StorageError(
            f"{place.link.where}: written by another version (layout {layout}, this one reads "
            f"{OLDEST} to {LAYOUT}); run that version, or choose another database"
        )
    if layout == LAYOUT:
        return None
    for step in MIGRATIONS[layout - OLDEST :]:
        step(place)
    client.set(_LAYOUT, LAYOUT)
    return layout


def take_over(place: Place) -> bool:
    """Bring over what replicas of the version before still wrote; whether there was anything."""
    return MIGRATIONS[-1](place)
