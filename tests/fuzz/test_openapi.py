"""The running exporter against its own OpenAPI document."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from exporter.web.openapi import document
from exporter.web.watch import PATH as WATCH
from tests.e2e.running import Exporter

# Left out: that every generated request is taken (a name has to print, which JSON Schema cannot
# say), and that every wrong one is refused (good events beside a bad one are taken).
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@schemathesis.serializer("application/x-protobuf")
def unpacked(context: object, value: object) -> bytes:
    """Anything, as bytes that are no message."""
    return repr(value).encode()


schema = schemathesis.openapi.from_dict(document())
# A stream of events has no end to wait for.
operations = [one for found in schema.get_all_operations() if (one := found.ok()).path != WATCH]


# Nothing can be wrong with a request that has no parameters and no body.
REQUESTS = [
    pytest.param(operation, mode, id=f"{mode.value}-{operation.label}")
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    for operation in operations
    if mode is GenerationMode.POSITIVE or operation.body or list(operation.iter_parameters())
]


@pytest.mark.parametrize(("operation", "mode"), REQUESTS)
def test_every_answer_is_one_the_document_tells_of(
    exporter: Exporter, operation: schemathesis.APIOperation, mode: GenerationMode
) -> None:
    asked: list[schemathesis.Case] = []

    @settings(
        max_examples=20,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        asked.append(case)
        case.call_and_validate(base_url=exporter.url, checks=CHECKS)

    ask()
    assert asked


def test_the_document_served_is_the_one_tested(exporter: Exporter) -> None:
    assert exporter.http.get("/openapi.json").json() == document()
