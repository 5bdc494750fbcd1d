"""The documentation: it builds, its links lead somewhere, and what is made from the code is new."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.reference import PAGES, pages
from tests.benchmarks.performance_pictures import PICTURES, pictures

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "docs").rglob("*.md"))
REPOSITORY = "https://github.com/llm-quota-exporter/llm-quota-exporter/blob/main/"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(#[^)\s]*)?\)")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", folder / "mkdocs.yml"],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return tmp_path


def test_the_site_builds_and_every_page_is_in_it(site: Path) -> None:
    built = build(site)
    assert built.returncode == 0, built.stdout + built.stderr
    for source in SOURCES:
        page = source.relative_to(ROOT / "docs").with_suffix("")
        folder = page.parent if page.name == "index" else page
        assert (site / "site" / folder / "index.html").exists(), page


def test_a_broken_link_fails_the_build(site: Path) -> None:
    page = site / "docs" / "alerts.md"
    page.write_text(page.read_text() + "\n[gone](gone.md) and [gone](budgets.md#gone)\n")
    built = build(site)
    assert built.returncode != 0
    assert "2 issues found" in built.stdout + built.stderr


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert named == {str(source.relative_to(ROOT / "docs")) for source in SOURCES}


@pytest.mark.parametrize("source", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SOURCES])
def test_links_into_the_repository_lead_to_files(source: Path) -> None:
    text = source.read_text()
    linked = re.findall(re.escape(REPOSITORY) + r"([^)#\s]+)", text)
    for path in linked:
        assert (ROOT / path).exists(), path
    for path, _ in LINK.findall(text):
        assert not path or (source.parent / path).exists(), path


def test_curves_are_those_of_the_tables() -> None:
    """If this fails: python -m tests.benchmarks.performance_pictures."""
    drawn = pictures()
    assert drawn.keys() == PICTURES.keys()
    for name, picture in drawn.items():
        assert picture == (ROOT / "docs" / name).read_text(), name


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return pages()


def test_generated_pages_are_those_of_the_code(generated: dict[str, str]) -> None:
    """If this fails: python -m docs.reference."""
    committed = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    assert generated.keys() == committed.keys()
    for name, text in generated.items():
        if name != "cli.md" or sys.version_info < (3, 13):  # later argparse lays help out otherwise
            assert text == committed[name], name


def test_generated_pages_say_what_the_code_has(generated: dict[str, str]) -> None:
    labels = "period, provider, unit, [consumer], [model]"
    assert f"| `llm_quota_exhaustion_probability` | gauge | {labels} |" in generated["metrics.md"]
    assert "| `llm_quota_tokens_total` | counter |" in generated["metrics.md"]
    assert "| `POST /v1/usage` |" in generated["http.md"]
    assert "--web.listen-address" in generated["cli.md"]
