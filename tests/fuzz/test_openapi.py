"""The running exporter against its own OpenAPI document."""

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
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
operations = [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.label)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_one_the_document_tells_of(
    exporter: Exporter, operation: schemathesis.APIOperation, mode: GenerationMode
) -> None:
    @settings(
        max_examples=20,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=exporter.url, checks=CHECKS)

    with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parameters
        ask()


def test_the_document_served_is_the_one_tested(exporter: Exporter) -> None:
    assert exporter.http.get("/openapi.json").json() == document()
