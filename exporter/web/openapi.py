"""The description of the interface, built from the types that decode it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from exporter import __version__
from exporter.core.usage import KINDS
from exporter.intake.format import Format
from exporter.intake.formats import FORMATS
from exporter.intake.ingest import MAX_KEY
from exporter.web.authorize import HEADERS, METHODS, PROVIDER
from exporter.web.authorize import PATH as AUTHORIZE
from exporter.web.backup_route import MEDIA_TYPE
from exporter.web.backup_route import PATH as BACKUP
from exporter.web.openapi_schemas import SCHEMAS
from exporter.web.operate import NewState
from exporter.web.override_routes import NewAmount, NewSilence
from exporter.web.pages.condition import Condition
from exporter.web.pages.status import MAX_PAGE, MAX_SEARCH, SORTS
from exporter.web.watch import PATH as WATCH

_ERROR = {"$ref": "#/components/schemas/Error"}
_ANSWER = {"$ref": "#/components/schemas/Answer"}
_PROVIDER = {"$ref": "#/components/schemas/Provider"}
_SCOPE = {"$ref": "#/components/schemas/Scope"}
_SCOPES = {
    "type": "object",
    "required": ["scopes"],
    "properties": {"scopes": {"type": "array", "items": _SCOPE}},
}


def _parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _asked(name: str) -> dict[str, Any]:
    return _parameter(name, {"type": "string", "maxLength": 128})


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _later(description: str) -> dict[str, Any]:
    wait = {"description": "Seconds to wait.", "schema": {"type": "string"}, "required": True}
    return {**_json(_ERROR, description), "headers": {"Retry-After": wait}}


_KNOWN = {"304": {"description": "As it was, by If-None-Match."}}
_BAD = {"400": _json(_ERROR, "Something in the request is wrong; the reason.")}
_UNKNOWN = {"404": _json(_ERROR, "No provider can have this name.")}
_OVERLOADED = {"429": _later("Too many requests.")}
_FAILURES = {
    "401": _json(_ERROR, "A credential is needed."),
    "403": _json(_ERROR, "The credential lacks the right."),
    "503": _json(_ERROR, "Cannot read or store right now, or too many connections."),
    **_OVERLOADED,
}
_BODY_FAILURES = {
    **_FAILURES,
    **_BAD,
    "413": _json(_ERROR, "The body is too large."),
    "415": _json(_ERROR, "The content type or encoding is not understood."),
    "503": _later("Cannot store right now."),
}
_PUSH_FAILURES = {
    **_BODY_FAILURES,
    "400": _json({"anyOf": [_ERROR, _ANSWER]}, "Nothing in the body could be used; the reasons."),
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key again changes nothing and gets the first answer.",
    "schema": {"type": "string", "maxLength": MAX_KEY, "pattern": "^[!-~]*$"},
}
_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "required": False,
    "description": "How the body is packed.",
    "schema": {"enum": ["gzip", "identity"]},
}
_NAME = {
    "name": "provider",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


_LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Go on after this event, if the changes since are still known.",
    "schema": {"type": "string"},
}


_LINES = {"type": "string", "description": "One of the objects on each line."}
_ANYTHING: dict[str, Any] = {"anyOf": [{"type": "object"}, {"type": "array"}]}


def _push(form: Format, item: Any) -> dict[str, Any]:
    """A format of pushes; `item` is the schema of one item, or None."""
    if form.encoding.echoes:
        content: dict[str, Any] = {kind: {"schema": {}} for kind in form.media_types}
        # Refusals by what stands before the reader are JSON; the others come as the request did.
        answers = {"200": {"description": "Durable.", "content": content}, **_PUSH_FAILURES}
        for status in ("400", "429", "503"):
            answers[status] = {**_PUSH_FAILURES[status], "content": content}
    else:
        body = {"anyOf": [item, {"type": "array", "items": item}]} if item else _ANYTHING
        content = {kind: {"schema": _LINES} for kind in form.media_types[1:2]}
        content = {form.media_types[0]: {"schema": body}, **content}
        answers = {"200": _json(_ANSWER, "Durable."), **_PUSH_FAILURES}
    named = [{**_NAME, "name": "name"}] if "{" in form.path else []
    return {
        "post": {
            "summary": form.summary,
            "parameters": [*named, _KEY, _ENCODING],
            "requestBody": {"required": True, "content": content},
            "responses": answers,
        }
    }


def _described(item: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The type of an item without its raw fields, which msgspec cannot describe."""
    fields = [
        (field.name, field.type, field.default)
        if field.default is not msgspec.NODEFAULT
        else (field.name, field.type)
        for field in msgspec.structs.fields(item)
        if field.type is not msgspec.Raw
    ]
    return msgspec.defstruct(
        item.__name__, fields, namespace={"__doc__": item.__doc__}, forbid_unknown_fields=True
    )


def _get(
    summary: str,
    response: Any,
    parameters: tuple[Any, ...] = (),
    failures: Mapping[str, Any] = _FAILURES,
) -> dict[str, Any]:
    responses = {"200": response, **failures}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def _text(description: str, *kinds: str) -> dict[str, Any]:
    content = {kind: {"schema": {"type": "string"}} for kind in kinds}
    return {"description": description, "content": content}


def _unknown_page() -> dict[str, Any]:
    """A page that says that nothing is known; of what no provider can be called, an error."""
    page, error = _text("", "text/html"), _json(_ERROR, "")
    content = {**page["content"], **error["content"]}
    return {"description": "Nothing is known of such a provider.", "content": content}


def _health(summary: str) -> dict[str, Any]:
    answers = {"200": _text("Yes.", "text/plain"), "503": _text("No.", "text/plain")}
    return {"get": {"summary": summary, "security": [], "responses": {**answers, **_OVERLOADED}}}


def _authorize(*parameters: dict[str, Any]) -> dict[str, Any]:
    """The same for every method of a gateway's own request."""
    headers = [
        {"name": name, "in": "header", "required": name == PROVIDER, "schema": {"type": "string"}}
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
            **_FAILURES,
            **_BAD,
            "404": _json(_ERROR, "The path cannot be one."),
        },
    }
    return {method.lower(): operation for method in METHODS if method != "HEAD"}


def _overrule(summary: str, wish: Any) -> dict[str, Any]:
    """An operator's word on a provider, and the schema of what is said."""
    return {
        "put": {
            "summary": summary,
            "parameters": [_NAME, _ENCODING],
            "requestBody": {"required": True, "content": {"application/json": {"schema": wish}}},
            "responses": {
                "200": _json(_PROVIDER, "As it is now."),
                **_BODY_FAILURES,
                **_UNKNOWN,
            },
        }
    }


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    described = [form for form in FORMATS if form.item is not None]
    (wish, amount, silence, *items), types = msgspec.json.schema_components(
        (
            NewState,
            NewAmount,
            NewSilence,
            *(_described(form.item) for form in described if form.item is not None),
        ),
        ref_template="#/components/schemas/{name}",
    )
    schemas = dict(zip((form.source for form in described), items, strict=True))
    types["Event"]["properties"]["usage"] = {
        "type": "object",
        "description": "A provider's own usage object; it is normalised to the disjoint kinds.",
    }
    providers = {"type": "object", "additionalProperties": _PROVIDER}
    moments = {"type": "object", "additionalProperties": {"type": "string", "format": "date-time"}}
    elapsed = {
        "name": "include_elapsed",
        "in": "query",
        "description": "Also those whose time to retry has come without a success since.",
        "schema": {"type": "boolean"},
    }
    reload = {
        "summary": "Read the configuration again.",
        "responses": {
            "200": _json({"type": "object"}, "It is in force."),
            **_FAILURES,
            "403": _json(_ERROR, "Not enabled, or the credential lacks the right."),
            "500": _json(_ERROR, "It is bad; the one before stays in force."),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llm-quota-exporter",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Token budgets of LLM providers: push usage, ask who is available. "
            f"Kinds of tokens: {', '.join(KINDS)}.",
        },
        "paths": {
            **{form.path: _push(form, schemas.get(form.source)) for form in FORMATS},
            "/v1/providers": _get(
                "Every provider.",
                _json(providers, "By name."),
                failures={**_KNOWN, **_FAILURES},
            ),
            "/v1/providers/{provider}": {
                **_get(
                    "One provider; one never heard of is available.",
                    _json(_PROVIDER, "The provider."),
                    (_NAME,),
                    {**_KNOWN, **_FAILURES, **_BAD, **_UNKNOWN},
                ),
                "delete": {
                    "summary": "Forget a provider that has no budget.",
                    "parameters": [_NAME],
                    "responses": {
                        "204": {"description": "Nothing is known of it any more."},
                        **_FAILURES,
                        **_BAD,
                        **_UNKNOWN,
                        "409": _json(_ERROR, "It has a budget."),
                    },
                },
            },
            "/v1/providers/{provider}/explain": _get(
                "What the forecasts of a provider's budgets rest on.",
                _json({"$ref": "#/components/schemas/Explanation"}, "Every budget."),
                (_NAME,),
                {**_FAILURES, **_BAD, **_UNKNOWN},
            ),
            "/v1/providers/{provider}/state": _overrule("Overrule a provider's state.", wish),
            "/v1/providers/{provider}/budget": _overrule(
                "Give a budget another amount for a while.", amount
            ),
            "/v1/providers/{provider}/silence": _overrule(
                "Let predictions have no effect for a while.", silence
            ),
            BACKUP: {
                "post": {
                    "summary": "A copy of the database, as of one moment, while it is in use.",
                    "responses": {
                        "200": {
                            "description": "A SQLite database.",
                            "content": {MEDIA_TYPE: {"schema": {}}},
                        },
                        **_FAILURES,
                        "409": _json(_ERROR, "Another one is being made."),
                        "501": _json(_ERROR, "The store is backed up by other means."),
                    },
                }
            },
            "/v1/exhausted": _get(
                "Who is exhausted, and when to retry.",
                _json(moments, "provider -> retry_after"),
                (elapsed,),
                {**_KNOWN, **_FAILURES, **_BAD},
            ),
            AUTHORIZE: _authorize(),
            AUTHORIZE + "/{original_path}": _authorize({**_NAME, "name": "original_path"}),
            "/v1/availability": _get(
                "Whether a request may be sent; without parameters, every scope that is out, "
                "throttled or likely out.",
                _json({"anyOf": [_SCOPE, _SCOPES]}, "The scope asked for, or all."),
                (_asked("provider"), _asked("model"), _asked("consumer")),
                {**_KNOWN, **_FAILURES, **_BAD},
            ),
            WATCH: _get(
                "The same as server-sent events: `state` with all scopes, and `names`: other name "
                "of a provider -> the names that scopes have. Then `change`, with one scope as it "
                "is now. Comments every 15 seconds.",
                _text("Events, without an end.", "text/event-stream"),
                (_LAST_EVENT,),
                {**_FAILURES, "503": _later("There are too many who watch, or it is ending.")},
            ),
            "/metrics": _get(
                "Metrics for Prometheus.",
                _text("The metrics.", "text/plain", "application/openmetrics-text"),
            ),
            "/": _get(
                "A page for people: every scope, those first that are worst off.",
                _text("The page.", "text/html"),
                (
                    _parameter("q", {"type": "string", "maxLength": MAX_SEARCH}),
                    _parameter("show", {"enum": ["", *Condition]}),
                    _parameter("sort", {"enum": list(SORTS)}),
                    _parameter("page", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
                ),
                {**_KNOWN, **_FAILURES, **_BAD},
            ),
            "/providers/{provider}": _get(
                "A page for people: one provider.",
                _text("The page.", "text/html"),
                (_NAME,),
                {**_KNOWN, **_FAILURES, **_BAD, "404": _unknown_page()},
            ),
            "/assets/{name}": _get(
                "A file that the pages need.",
                _text("The file.", "text/css", "text/javascript", "image/svg+xml"),
                ({**_NAME, "name": "name"},),
                {**_FAILURES, **_UNKNOWN},
            ),
            "/openapi.json": _get("This document.", _json({"type": "object"}, "OpenAPI 3.1.")),
            "/-/healthy": _health("Alive."),
            "/-/ready": _health("Ready to serve."),
            "/-/reload": {"post": reload, "put": reload},
        },
        "components": {
            "schemas": {**SCHEMAS, **types},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
    }
