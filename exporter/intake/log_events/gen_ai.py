"""The event of OpenTelemetry's conventions for generative AI, which repeats a span's attributes.

https://github.com/open-telemetry/semantic-conventions-genai, gen-ai-events.
"""

from exporter.intake.log_events.event import Tool
from exporter.intake.spans import gen_ai, openlit
from exporter.intake.spans.convention import LIBRARY, Attributes, Call, text


def _details(found: Attributes) -> Call | str | None:
    if gen_ai.MARKS.isdisjoint(found):
        return None
    its_own = text(found, LIBRARY).startswith(openlit.CONVENTION.library)
    return openlit.read(found) if its_own else gen_ai.read(found)


TOOL = Tool(
    {"gen_ai.client.inference.operation.details": _details},
    gen_ai.MARKS | gen_ai.ATTRIBUTES,
    general=True,
)
