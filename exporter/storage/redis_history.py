"""All usage in a Redis, read while others go on counting.

The log says what every version added. A block or sum that is read at a later version than the one
from which `Store.changes` will continue holds something twice then: what was added in between is
taken out again, by blocks with negative counts at the end.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from exporter.core.series import Series, decode
from exporter.core.slots import FINE_SECONDS, Block, Counts, Increments, Tier, add, blocks_of
from exporter.storage.contract import StorageError
from exporter.storage.redis_blocks import read_blocks, read_total
from exporter.storage.redis_keys import prefix_of
from exporter.storage.redis_link import Link, Script

PREFIXES_AT_ONCE = 32  # that are asked for in one round trip
NUMBERS_AT_ONCE = 7  # blocks of a series that are asked for in one round trip
BLOCKS_AT_ONCE = 100  # that are unpacked together

K = TypeVar("K")

_READ, _TOTALS, _BLOCKS = Script("read.lua"), Script("totals.lua"), Script("blocks.lua")


class _Entry(NamedTuple):
    """What one version added: cells, and names of documents that were replaced."""

    added: list[tuple[str, int, Counts]]
    names: list[str]


_entries = msgspec.msgpack.Decoder(_Entry)


class LogReader:
    """What was added since a version, under any number of homes.

    Attributes:
        versions: home -> the version up to which everything is known.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.versions: dict[str, int] = {}

    def present(self, homes: Sequence[str]) -> dict[str, int]:
        """The versions that these homes have now."""
        client = self._link.client
        mget = client.mget_nonatomic if self._link.cluster else client.mget
        found = mget([f"{home}:version" for home in homes])
        return dict(zip(homes, map(int, (raw or 0 for raw in found)), strict=True))

    def read(self, since: Mapping[str, int]) -> Iterator[tuple[str, int, _Entry]]:
        """Home, version and contents of everything after these versions.

        Raises:
            LookupError: some of it is not in the log any more, or the server came back with less.
        """
        homes = list(since)
        replies = self._link.run([_READ.call([home], since[home]) for home in homes])
        for home, (version, entries) in zip(homes, replies, strict=True):
            if len(entries) != version - since[home]:
                raise LookupError(home)
            for number, entry in enumerate(entries, since[home] + 1):
                yield home, number, _entries.decode(entry)

    def changes(self, homes: Sequence[str]) -> tuple[Increments, list[str]]:
        """What was added since this was last asked, and the names of replaced documents.

        Raises:
            LookupError: see `read`.
        """
        present = self.present(homes)
        known = {home: self.versions.get(home, 0) for home in homes}
        if any(present[home] < known[home] for home in homes):
            raise LookupError("the server came back with less")
        since = {home: known[home] for home in homes if present[home] != known[home]}
        increments: Increments = {}
        names: dict[str, None] = {}
        versions: dict[str, int] = {}
        for home, version, (added, replaced) in self.read(since):
            for series, slot, counts in added:
                add(increments, (decode(series), slot), counts)
            names.update(dict.fromkeys(replaced))
            versions[home] = version
        self.versions.update(versions)
        return increments, list(names)


class HistoryReader:
    """Reads all sums, then all blocks, as of given versions of the logs.

    Args:
        link: the server.
        log: reads what was added since.
        homes: prefix of each provider -> home of its log.
    """

    def __init__(self, link: Link, log: LogReader, homes: Mapping[str, str]) -> None:
        self._link = link
        self._log = log
        self._homes = homes
        self._versions = dict(log.versions)

    def totals(self) -> dict[Series, Counts]:
        """Series -> counts since the store began."""
        totals: dict[Series, Counts] = {}
        later: dict[str, int] = {}  # prefix -> version, where it is a later one
        for prefixes, replies in self._run(_TOTALS):
            for prefix, (version, *found) in zip(prefixes, replies, strict=True):
                self._note(later, prefix, prefix, version)
                for series, body in zip(found[::2], found[1::2], strict=True):
                    totals[decode(series)] = read_total(body)
        for version, series, _, counts in self._added(later):
            if version <= later.get(prefix_of(series.provider), 0):
                add(totals, series, [-count for count in counts])
        return {series: counts for series, counts in totals.items() if any(counts)}

    def blocks(self, wanted: Sequence[tuple[Tier, range]]) -> Iterator[Block]:
        """The blocks of these tiers and numbers."""
        later: dict[tuple[str, str, int], int] = {}  # prefix, tier, number -> version
        for tier, some in wanted:
            for start in range(some.start, some.stop, NUMBERS_AT_ONCE):
                numbers = range(start, min(start + NUMBERS_AT_ONCE, some.stop))
                suffixes = [f"{tier.name}:{number}" for number in numbers]
                for prefixes, replies in self._run(_BLOCKS, *suffixes):
                    found: list[tuple[int, Series, bytes]] = []
                    for prefix, (version, *hashes) in zip(prefixes, replies, strict=True):
                        for number, flat in zip(numbers, hashes, strict=True):
                            self._note(later, prefix, (prefix, tier.name, number), version)
                            for series, body in zip(flat[::2], flat[1::2], strict=True):
                                found.append((number, decode(series), body))
                    yield from _unpacked(tier, found)
        yield from self._surplus(later)

    def _surplus(self, later: Mapping[tuple[str, str, int], int]) -> Iterator[Block]:
        """What blocks held that were read at a later version, as blocks of negative counts."""
        for version, series, slot, counts in self._added({key[0]: 1 for key in later}):
            for block in blocks_of({(series, slot): counts}, slot * FINE_SECONDS):
                key = (prefix_of(series.provider), block.tier.name, block.number)
                if version <= later.get(key, 0):
                    negative = {index: -column for index, column in block.counts.items()}
                    yield block._replace(counts=negative)

    def _run(self, script: Script, *arguments: str) -> Iterator[tuple[list[str], list[Any]]]:
        """What a script says of every prefix, a few prefixes at a time."""
        prefixes = list(self._homes)
        for start in range(0, len(prefixes), PREFIXES_AT_ONCE):
            some = prefixes[start : start + PREFIXES_AT_ONCE]
            calls = [script.call([one, self._homes[one]], *arguments) for one in some]
            yield some, self._link.run(calls)

    def _note(self, later: dict[K, int], prefix: str, key: K, version: int) -> None:
        if version > self._versions.get(self._homes[prefix], 0):
            later[key] = version

    def _added(self, prefixes: Iterable[str]) -> Iterator[tuple[int, Series, int, Counts]]:
        """Everything that was added under the homes of these prefixes since the versions."""
        homes = {self._homes[prefix] for prefix in prefixes}
        since = {home: self._versions.get(home, 0) for home in homes}
        try:
            for _, version, entry in self._log.read(since):
                for series, slot, counts in entry.added:
                    yield version, decode(series), slot, counts
        except LookupError as error:
            raise StorageError("more was committed while reading than the log holds") from error


def _unpacked(tier: Tier, found: Sequence[tuple[int, Series, bytes]]) -> Iterator[Block]:
    """The blocks, those of a time together."""
    ordered = iter(sorted(found, key=itemgetter(0)))
    while some := list(islice(ordered, BLOCKS_AT_ONCE)):
        columns = read_blocks([body for _, _, body in some], tier)
        for (number, series, _), each in zip(some, columns, strict=True):
            yield Block(series, tier, number, each)
