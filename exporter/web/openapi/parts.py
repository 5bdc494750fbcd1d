"""Parameters and answers that several operations have in common."""

from collections.abc import Mapping
from typing import Any

from exporter.intake.ingest import MAX_KEY

ERROR = {"$ref": "#/components/schemas/Error"}
ANSWER = {"$ref": "#/components/schemas/Answer"}
PROVIDER = {"$ref": "#/components/schemas/Provider"}
SCOPE = {"$ref": "#/components/schemas/Scope"}


def text(description: str, *kinds: str) -> dict[str, Any]:
    """An answer of text in one of some media types."""
    content = {kind: {"schema": {"type": "string"}} for kind in kinds}
    return {"description": description, "content": content}


def json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """An answer of JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def later(description: str) -> dict[str, Any]:
    """An error that says when to try again."""
    wait = {"description": "Seconds to wait.", "schema": {"type": "string"}, "required": True}
    return {**json(ERROR, description), "headers": {"Retry-After": wait}}


def query(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter that may be in the query."""
    return {"name": name, "in": "query", "required": False, "schema": schema}


KNOWN = {"304": {"description": "As it was, by If-None-Match."}}
BAD = {"400": json(ERROR, "Something in the request is wrong; the reason.")}
UNKNOWN = {"404": json(ERROR, "No provider can have this name.")}
OVERLOADED = {"429": later("Too many requests.")}
FAILURES = {
    "401": json(ERROR, "A credential is needed."),
    "403": json(ERROR, "The credential lacks the right."),
    "503": json(ERROR, "Cannot read or store right now, or too many connections."),
    **OVERLOADED,
}
BODY_FAILURES = {
    **FAILURES,
    **BAD,
    "413": json(ERROR, "The body is too large."),
    "415": json(ERROR, "The content type or encoding is not understood."),
    "503": later("Cannot store right now."),
}
PUSH_FAILURES = {
    **BODY_FAILURES,
    "400": json({"anyOf": [ERROR, ANSWER]}, "Nothing in the body could be used; the reasons."),
}

KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key again changes nothing and gets the first answer.",
    "schema": {"type": "string", "maxLength": MAX_KEY, "pattern": "^[!-~]*$"},
}
ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "required": False,
    "description": "How the body is packed.",
    "schema": {"enum": ["gzip", "identity"]},
}
NAME = {
    "name": "provider",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Go on after this event, if the changes since are still known.",
    "schema": {"type": "string"},
}
