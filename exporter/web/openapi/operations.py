"""The operations that several paths have, and those that are derived."""

from collections.abc import Mapping
from typing import Any

from exporter.intake.format import Format
from exporter.web.authorize import HEADERS, METHODS
from exporter.web.authorize import PROVIDER as PROVIDER_HEADER
from exporter.web.openapi.parts import (
    ANSWER,
    BAD,
    BODY_FAILURES,
    ENCODING,
    ERROR,
    FAILURES,
    KEY,
    NAME,
    OVERLOADED,
    PROVIDER,
    PUSH_FAILURES,
    UNKNOWN,
    json,
    text,
)

_LINES = {"type": "string", "description": "One of the objects on each line."}
_ANYTHING: dict[str, Any] = {"anyOf": [{"type": "object"}, {"type": "array"}]}


def push(form: Format, item: Any) -> dict[str, Any]:
    """A format of pushes; `item` is the schema of one item, or None."""
    if form.encoding.echoes:
        content: dict[str, Any] = {kind: {"schema": {}} for kind in form.media_types}
        # Refusals by what stands before the reader are JSON; the others come as the request did.
        answers = {"200": {"description": "Durable.", "content": content}, **PUSH_FAILURES}
        for status in ("400", "429", "503"):
            answers[status] = {**PUSH_FAILURES[status], "content": content}
    else:
        body = {"anyOf": [item, {"type": "array", "items": item}]} if item else _ANYTHING
        content = {kind: {"schema": _LINES} for kind in form.media_types[1:2]}
        content = {form.media_types[0]: {"schema": body}, **content}
        answers = {"200": json(ANSWER, "Durable."), **PUSH_FAILURES}
    named = [{**NAME, "name": "name"}] if "{" in form.path else []
    return {
        "post": {
            "summary": form.summary,
            "parameters": [*named, KEY, ENCODING],
            "requestBody": {"required": True, "content": content},
            "responses": answers,
        }
    }


def get(
    summary: str,
    response: Any,
    parameters: tuple[Any, ...] = (),
    failures: Mapping[str, Any] = FAILURES,
) -> dict[str, Any]:
    """A question."""
    responses = {"200": response, **failures}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def health(summary: str) -> dict[str, Any]:
    """A check of health, which needs no credential."""
    answers = {"200": text("Yes.", "text/plain"), "503": text("No.", "text/plain")}
    return {"get": {"summary": summary, "security": [], "responses": {**answers, **OVERLOADED}}}


def authorize(*parameters: dict[str, Any]) -> dict[str, Any]:
    """The same for every method of a gateway's own request."""
    headers = [
        {
            "name": name,
            "in": "header",
            "required": name == PROVIDER_HEADER,
            "schema": {"type": "string"},
        }
        for name in HEADERS
    ]
    denied = {
        "name": "denied",
        "in": "query",
        "description": "The status of a refusal: nginx takes 403 for one, not 429.",
        "schema": {"enum": ["403", "429"]},
    }
    operation = {
        "summary": "For auth subrequests of gateways: may this request be sent?",
        "parameters": [*parameters, denied, *headers],
        "responses": {
            "200": {"description": "It may."},
            **FAILURES,
            **BAD,
            "404": json(ERROR, "The path cannot be one."),
        },
    }
    return {method.lower(): operation for method in METHODS if method != "HEAD"}


def overrule(summary: str, wish: Any) -> dict[str, Any]:
    """An operator's word on a provider, and the schema of what is said."""
    return {
        "put": {
            "summary": summary,
            "parameters": [NAME, ENCODING],
            "requestBody": {"required": True, "content": {"application/json": {"schema": wish}}},
            "responses": {
                "200": json(PROVIDER, "As it is now."),
                **BODY_FAILURES,
                **UNKNOWN,
            },
        }
    }
