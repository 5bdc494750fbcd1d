"""Report usage and rate limits from a Python program, and ask who is available, without waiting.

    from exporter.client import Availability, Reporter, instrument

    reporter = Reporter("http://exporter:10042")
    client = instrument(openai.OpenAI(), reporter)

    availability = Availability("http://exporter:10042")
    provider = availability.choose(["openai", "anthropic"])

A package of its own: nothing else of the exporter is imported, and reporting needs no HTTP library
beyond Python's. `instrument` works on whichever of httpx and httpx2 the instrumented client uses.
"""

from exporter.client.availability import Availability
from exporter.client.hook import instrument
from exporter.client.reporter import Reporter

__all__ = ["Availability", "Reporter", "instrument"]
