"""Every path but those of pushes, which follow from their formats."""

from typing import Any

from exporter.web.authorize import PATH as AUTHORIZE
from exporter.web.backup_route import MEDIA_TYPE
from exporter.web.backup_route import PATH as BACKUP
from exporter.web.openapi.operations import authorize, get, health, overrule
from exporter.web.openapi.parts import (
    BAD,
    ERROR,
    FAILURES,
    KNOWN,
    LAST_EVENT,
    NAME,
    PROVIDER,
    SCOPE,
    UNKNOWN,
    json,
    later,
    query,
    text,
)
from exporter.web.pages.condition import Condition
from exporter.web.pages.status import MAX_PAGE, MAX_SEARCH, SORTS
from exporter.web.watch import PATH as WATCH

_PROVIDERS = {"type": "object", "additionalProperties": PROVIDER}
_MOMENTS = {"type": "object", "additionalProperties": {"type": "string", "format": "date-time"}}
_SCOPES = {
    "type": "object",
    "required": ["scopes"],
    "properties": {"scopes": {"type": "array", "items": SCOPE}},
}


def states() -> dict[str, Any]:
    """What is asked about providers and scopes, and may be forgotten."""
    return {
        "/v1/providers": get(
            "Every provider.", json(_PROVIDERS, "By name."), failures={**KNOWN, **FAILURES}
        ),
        "/v1/providers/{provider}": {
            **get(
                "One provider; one never heard of is available.",
                json(PROVIDER, "The provider."),
                (NAME,),
                {**KNOWN, **FAILURES, **BAD, **UNKNOWN},
            ),
            "delete": {
                "summary": "Forget a provider that has no budget.",
                "parameters": [NAME],
                "responses": {
                    "204": {"description": "Nothing is known of it any more."},
                    **FAILURES,
                    **BAD,
                    **UNKNOWN,
                    "409": json(ERROR, "It has a budget."),
                },
            },
        },
        "/v1/providers/{provider}/explain": get(
            "What the forecasts of a provider's budgets rest on.",
            json({"$ref": "#/components/schemas/Explanation"}, "Every budget."),
            (NAME,),
            {**FAILURES, **BAD, **UNKNOWN},
        ),
        "/v1/exhausted": get(
            "Who is exhausted, and when to retry.",
            json(_MOMENTS, "provider -> retry_after"),
            (
                {
                    **query("include_elapsed", {"type": "boolean"}),
                    "description": "Also those whose time to retry has come without a success "
                    "since.",
                },
            ),
            {**KNOWN, **FAILURES, **BAD},
        ),
    }


def routing() -> dict[str, Any]:
    """What gateways and routers ask before each request."""
    return {
        AUTHORIZE: authorize(),
        AUTHORIZE + "/{original_path}": authorize({**NAME, "name": "original_path"}),
        "/v1/availability": get(
            "Whether a request may be sent; without parameters, every scope that is out, "
            "throttled or likely out.",
            json({"anyOf": [SCOPE, _SCOPES]}, "The scope asked for, or all."),
            tuple(
                query(name, {"type": "string", "maxLength": 128})
                for name in ("provider", "model", "consumer")
            ),
            {**KNOWN, **FAILURES, **BAD},
        ),
        WATCH: get(
            "The same as server-sent events: `state` with all scopes, and `names`: other name "
            "of a provider -> the names that scopes have. Then `change`, with one scope as it "
            "is now. Comments every 15 seconds.",
            text("Events, without an end.", "text/event-stream"),
            (LAST_EVENT,),
            {**FAILURES, "503": later("There are too many who watch, or it is ending.")},
        ),
    }


def overrides(state: Any, amount: Any, silence: Any) -> dict[str, Any]:
    """What operators set; each with the schema of what is said."""
    return {
        "/v1/providers/{provider}/state": overrule("Overrule a provider's state.", state),
        "/v1/providers/{provider}/budget": overrule(
            "Give a budget another amount for a while.", amount
        ),
        "/v1/providers/{provider}/silence": overrule(
            "Let predictions have no effect for a while.", silence
        ),
    }


def pages() -> dict[str, Any]:
    """What a person sees."""
    return {
        "/": get(
            "A page for people: every scope, those first that are worst off.",
            text("The page.", "text/html"),
            (
                query("q", {"type": "string", "maxLength": MAX_SEARCH}),
                query("show", {"enum": ["", *Condition]}),
                query("sort", {"enum": list(SORTS)}),
                query("page", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
            ),
            {**KNOWN, **FAILURES, **BAD},
        ),
        "/providers/{provider}": get(
            "A page for people: one provider.",
            text("The page.", "text/html"),
            (NAME,),
            {**KNOWN, **FAILURES, **BAD, "404": _unknown_page()},
        ),
        "/assets/{name}": get(
            "A file that the pages need.",
            text("The file.", "text/css", "text/javascript", "image/svg+xml"),
            ({**NAME, "name": "name"},),
            {**FAILURES, **UNKNOWN},
        ),
    }


def _unknown_page() -> dict[str, Any]:
    """A page that says that nothing is known; of what no provider can be called, an error."""
    page, error = text("", "text/html"), json(ERROR, "")
    content = {**page["content"], **error["content"]}
    return {"description": "Nothing is known of such a provider.", "content": content}


def operation() -> dict[str, Any]:
    """What running the exporter needs."""
    reload = {
        "summary": "Read the configuration again.",
        "responses": {
            "200": json({"type": "object"}, "It is in force."),
            **FAILURES,
            "403": json(ERROR, "Not enabled, or the credential lacks the right."),
            "500": json(ERROR, "It is bad; the one before stays in force."),
        },
    }
    return {
        "/metrics": get(
            "Metrics for Prometheus.",
            text("The metrics.", "text/plain", "application/openmetrics-text"),
        ),
        BACKUP: {
            "post": {
                "summary": "A copy of the database, as of one moment, while it is in use.",
                "responses": {
                    "200": {
                        "description": "A SQLite database.",
                        "content": {MEDIA_TYPE: {"schema": {}}},
                    },
                    **FAILURES,
                    "429": json(ERROR, "Another one is being made, or handed out."),
                    "501": json(ERROR, "The store is backed up by other means."),
                },
            }
        },
        "/openapi.json": get("This document.", json({"type": "object"}, "OpenAPI 3.1.")),
        "/-/healthy": health("Alive."),
        "/-/ready": health("Ready to serve."),
        "/-/reload": {"post": reload, "put": reload},
    }
