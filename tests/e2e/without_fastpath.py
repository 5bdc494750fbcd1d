"""The program with every request on the ordinary way: `python -m tests.e2e.without_fastpath`."""

import sys

from exporter.cli import main, serve
from exporter.web import protocol

# Names differ only in what they serve with; mypy cannot know that one may stand for the other.
serve.serving = protocol.serving  # type: ignore[assignment]
sys.exit(main())
