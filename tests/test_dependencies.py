"""What is used from within a library is bounded above: its next version may have no such part."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {
    Requirement(line).name.lower().replace("-", "_"): Requirement(line)
    for line in (
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    )
}
DISTRIBUTION = {
    "grpc": "grpcio",
    "yaml": "pyyaml",
    "opentelemetry": "opentelemetry_proto",
    "google": "protobuf",
}

# Modules that their library documents. Whatever else is imported from below a library's top is
# taken for its inside.
DOCUMENTED = {
    *("google.protobuf", "google.protobuf.descriptor", "google.protobuf.json_format"),
    *("google.protobuf.message", "grpc.aio"),
    *("litellm.integrations.custom_logger", "msgspec.structs"),
    *("numpy.lib.stride_tricks", "numpy.typing"),
    *("prometheus_client.exposition", "prometheus_client.parser"),
    *("redis.backoff", "redis.exceptions", "redis.retry"),
    *(
        "rich.console",
        "rich.live",
        "rich.progress",
        "rich.prompt",
        "rich.style",
        "rich.table",
        "rich.text",
    ),
    *("starlette.applications", "starlette.datastructures", "starlette.exceptions"),
    *("starlette.middleware", "starlette.requests", "starlette.responses", "starlette.routing"),
    "starlette.types",
}


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names if one.name[0] == "_")


def inside() -> dict[str, set[str]]:
    """Distribution -> its modules that are used without being documented."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for module in imports(ast.parse(file.read_text())):
            top, _, rest = module.partition(".")
            ours = top in sys.stdlib_module_names or top == "exporter"
            # The modules of the OTLP messages are what their distribution is made of.
            if ours or not rest or module in DOCUMENTED or module.startswith("opentelemetry.proto"):
                continue
            found.setdefault(DISTRIBUTION.get(top, top), set()).add(module)
    return found


def test_the_search_finds_what_is_known_to_be_inside() -> None:
    assert "uvicorn.protocols.http.httptools_impl" in inside()["uvicorn"]
    assert "redis.cluster" in inside()["redis"]


@pytest.mark.parametrize("distribution", sorted(inside()))
def test_a_library_whose_inside_is_used_has_an_upper_bound(distribution: str) -> None:
    requirement = REQUIREMENTS[distribution]
    bounds = {one.operator for one in requirement.specifier}
    assert bounds & {"<", "<=", "==", "~="}, f"{requirement}: {sorted(inside()[distribution])}"
