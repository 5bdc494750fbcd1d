"""Which keys there are in a Redis, and where each provider's are.

The keys of a provider share a hash tag, `llmq:{openai}…`:

    :<tier>:<number>         hash of blocks, by series: see `redis_blocks.py`
    :series, :total:<series> the series, and what each counted since the store began, a 64-bit
                             big-endian integer for each column
    :seen:<period>           set of the identities claimed in one period; see `redis_life.py`
    :level:<digest>          a cumulative counter's start and highest values

Under a home, `llmq:{*keys}`, or in a cluster each provider's own prefix:

    :keys:<period>           hash of answers by Idempotency-Key
    :version, :log           how often something was committed; the last of these, as a stream

Documents are a hash under `llmq:{*documents}`.
"""

from collections.abc import Iterable
from urllib.parse import quote

from exporter.storage.redis_link import Link

_PROVIDERS = "llmq:providers"
# Quoted provider names have no asterisk.
KEYS, DOCUMENTS = "llmq:{*keys}", "llmq:{*documents}"


def prefix_of(provider: str) -> str:
    """What the names of a provider's keys begin with."""
    # Quoted: a brace in a name would end the hash tag.
    return f"llmq:{{{quote(provider, safe='')}}}"


class Keys:
    """The providers that all replicas of a Redis know.

    Attributes:
        providers: prefix -> provider.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.providers: dict[str, str] = {}

    def refresh(self) -> None:
        """Know also the providers that other replicas have introduced."""
        if self._link.client.scard(_PROVIDERS) != len(self.providers):
            names = (name.decode() for name in self._link.client.smembers(_PROVIDERS))
            self.providers = {prefix_of(name): name for name in names}

    def introduce(self, providers: Iterable[str]) -> None:
        """Make new providers known to every replica, before anything of theirs is counted."""
        new = set(providers).difference(self.providers.values())
        if new:
            self._link.client.sadd(_PROVIDERS, *new)
            self.providers.update((prefix_of(name), name) for name in new)

    def homes(self) -> list[str]:
        """Where there are logs: of what is counted, and of documents."""
        return [DOCUMENTS, *self.providers] if self._link.cluster else [KEYS]

    def home_of_each(self) -> dict[str, str]:
        """Prefix -> where the log of what is counted under it is."""
        return {prefix: prefix if self._link.cluster else KEYS for prefix in self.providers}
