"""What the commands share by which an operator overrules the exporter."""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from exporter.cli.http import Unreachable, ask, provider_path
from exporter.cli.status import providers_table
from exporter.terminal import console, show


def overrule(options: argparse.Namespace, below: str, wish: Mapping[str, object]) -> int:
    """Ask for it below a provider's path, and show the provider as it then is; the exit code."""
    try:
        path = provider_path(options.provider, below)
        one = ask(options, path, json.dumps(wish).encode(), "PUT")
    except Unreachable as error:
        print(error, file=sys.stderr)
        return 1
    out = console()
    show(providers_table({one["provider"]: one}, datetime.now(UTC), out.width), out)
    return 0
