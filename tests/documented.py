"""What the documentation shows is what tests run."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def block(page: str, heading: str, language: str) -> str:
    """The first block of code in a language under a heading of a page."""
    section = (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found is not None, f"no {language} under {heading} in {page}"
    return found[1]


def replaced(text: str, **names: str) -> str:
    """`text` with each of these hosts, as `http://NAME`, at another address."""
    for name, url in names.items():
        pattern = rf"http://{name}(:10042)?(?=[/;\"])"
        text, count = re.subn(pattern, url, text)
        assert count, f"no http://{name} in {text}"
    return text
