"""OpenLIT: OpenTelemetry's names, with what providers say in them as it is.

https://github.com/openlit/openlit, `sdk/python`. So the input of Anthropic's models, on Bedrock
too, excludes their cached tokens.
"""

from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import Attributes, Call, Convention, text

_BESIDE = frozenset({"anthropic", "aws.bedrock"})


def read(found: Attributes) -> Call | str:
    """The same as OpenTelemetry's, but for the cache."""
    beside = text(found, *gen_ai.PROVIDER) in _BESIDE
    return gen_ai.read(found, cache_beside=beside)


CONVENTION = Convention("OpenLIT", gen_ai.MARKS, gen_ai.ATTRIBUTES, read, library="openlit.")
