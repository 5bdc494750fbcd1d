"""One running exporter for each module of tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.running import Exporter

CONFIG = """\
budgets:
  openai: 1_000_000
  claude-team:
    - {tokens: 10_000, period: 5h}
    - {tokens: 50_000, period: week, timezone: Europe/Berlin}
aliases: {gpt: openai}
"""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """The real program with an empty database, reloadable over HTTP."""
    folder = tmp_path_factory.mktemp("exporter")
    with Exporter(folder, CONFIG, "--web.enable-lifecycle") as running:
        yield running
