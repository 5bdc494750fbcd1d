"""The event of OpenTelemetry's conventions for generative AI, which repeats a span's attributes.

https://github.com/open-telemetry/semantic-conventions-genai, gen-ai-events.
"""

from exporter.intake.log_events.event import Tool
from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import Attributes, Call


def _details(found: Attributes) -> Call | str | None:
    return gen_ai.read(found) if gen_ai.MARKS & found.keys() else None


TOOL = Tool(
    {"gen_ai.client.inference.operation.details": _details},
    gen_ai.MARKS | gen_ai.ATTRIBUTES,
    general=True,
)
