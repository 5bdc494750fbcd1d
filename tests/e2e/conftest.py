"""One running exporter for each module of tests."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.running import COMMAND, Exporter

CONFIG = """\
budgets:
  openai: 1_000_000
  claude-team:
    - {tokens: 10_000, period: 5h}
    - {tokens: 50_000, period: week, timezone: Europe/Berlin}
aliases: {gpt: openai}
"""


def started(folder: Path, program: Sequence[str] = (COMMAND,)) -> Exporter:
    """The real program with an empty database, reloadable over HTTP."""
    return Exporter(folder, CONFIG, "--web.enable-lifecycle", program=program)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with started(tmp_path_factory.mktemp("exporter")) as running:
        yield running
