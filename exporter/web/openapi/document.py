"""The OpenAPI document."""

from functools import cache
from typing import Any

import msgspec

from exporter import __version__
from exporter.core.usage import KINDS
from exporter.intake.formats import FORMATS
from exporter.web.openapi import paths
from exporter.web.openapi.operations import push
from exporter.web.openapi.schemas import SCHEMAS
from exporter.web.operate import NewState
from exporter.web.override_routes import NewAmount, NewSilence


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    items = {form.source: _described(form.item) for form in FORMATS if form.item is not None}
    (state, amount, silence, *schemas), types = msgspec.json.schema_components(
        (NewState, NewAmount, NewSilence, *items.values()),
        ref_template="#/components/schemas/{name}",
    )
    schema_of = dict(zip(items, schemas, strict=True))
    types["Event"]["properties"]["usage"] = {
        "type": "object",
        "description": "A provider's own usage object; it is normalised to the disjoint kinds.",
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
            **{form.path: push(form, schema_of.get(form.source)) for form in FORMATS},
            **paths.states(),
            **paths.routing(),
            **paths.overrides(state, amount, silence),
            **paths.pages(),
            **paths.operation(),
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
