"""Report usage and rate limits from a Python program, without ever getting in its way.

    from exporter.client import Reporter, instrument

    reporter = Reporter("http://exporter:10042")
    client = instrument(openai.OpenAI(), reporter)

A package of its own: nothing else of the exporter is imported, and reporting needs no HTTP library
beyond Python's. `instrument` works on whichever of httpx and httpx2 the instrumented client uses.
"""

from exporter.client.hook import instrument
from exporter.client.reporter import Reporter

__all__ = ["Reporter", "instrument"]
