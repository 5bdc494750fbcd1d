"""Whose events are read; a new tool is a file with a `TOOL`, and a line here."""

from collections.abc import Mapping
from typing import NamedTuple

from exporter.intake.log_events import claude_code, codex, gemini_cli, gen_ai
from exporter.intake.log_events.event import Read, Tool

TOOLS: tuple[Tool, ...] = (claude_code.TOOL, gemini_cli.TOOL, codex.TOOL, gen_ai.TOOL)

ATTRIBUTES = frozenset[str]().union(*(tool.attributes for tool in TOOLS))
"""All that is looked at of a record; the rest, prompts among it, is not touched."""


class Event(NamedTuple):
    """How an event is read, and whose it is."""

    read: Read
    tool: Tool


EVENTS: Mapping[str, Event] = {
    name: Event(read, tool) for tool in TOOLS for name, read in tool.events.items()
}


def full_name(scope: str, name: str) -> str:
    """What an event of an instrumentation scope is called in full."""
    for tool in TOOLS:
        if tool.scope and scope.startswith(tool.scope) and not name.startswith(tool.prefix):
            return f"{tool.prefix}{name}"
    return name
