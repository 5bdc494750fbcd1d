"""Runs the clients and prints the table of docs/intake.md.

    python -m tests.clients [--only TEXT] [--cache FOLDER] [--write]

Each is installed from PyPI or npm into a folder of its own, which later runs use again. Fails where
a row says anything else than the page, its version left out.
"""

import argparse
import re
import sys
from pathlib import Path

from tests.clients.clients import CLIENTS, Client
from tests.clients.measure import Measured, measure

PAGE = Path(__file__).parents[2] / "docs" / "intake.md"
HEAD = (
    "| client | version | what to set | tokens used | counted | requests | what differs |\n"
    "|---|---|---|--:|--:|--:|---|\n"
)


def row(client: Client, found: Measured) -> str:
    """A line of the table."""
    true, counted = sum(found.true.values()), sum(found.counted.values())
    return (
        f"| {client.name} | {found.version} | {client.setting} | {true:,} | {counted:,} "
        f"| {found.counted_requests} of {found.requests} | {differences(found)} |\n"
    )


def differences(found: Measured) -> str:
    """Which kinds of which provider are not as they were used."""
    if found.problem or not found.requests:
        return "it did not run"
    said = [
        f"{provider} {kind} {found.counted[provider, kind]} of {found.true[provider, kind]}"
        for provider, kind in sorted(found.true.keys() | found.counted.keys())
        if found.true[provider, kind] != found.counted[provider, kind]
    ]
    return "; ".join(said) or "nothing"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="clients whose name has this in it")
    parser.add_argument("--cache", type=Path, default=Path("build/clients"))
    parser.add_argument("--write", action="store_true", help="write the table into docs/intake.md")
    given = parser.parse_args()
    rows, page = [], PAGE.read_text()
    for client in CLIENTS:
        if given.only.lower() not in client.name.lower():
            continue
        found = measure(client, given.cache.resolve())
        rows.append(row(client, found))
        sys.stdout.write(rows[-1])
        for why, items in found.uncharged.items():
            sys.stdout.write(f"    uncharged {' '.join(why)}: {items}\n")
        if found.problem:
            sys.stdout.write(f"    {found.problem}\n")
        sys.stdout.flush()
    if given.write:
        PAGE.write_text(written(page, rows))
    changed = differing(page, rows)
    sys.stdout.writelines(f"{name}: the page says otherwise\n" for name in changed)
    return 1 if changed else 0


def written(page: str, rows: list[str]) -> str:
    """The page with these rows in its table, each in place of the client's row of before."""
    table = _table(page)
    found = _by_name([*_rows(table[0]), *rows])
    named = [found[client.name] for client in CLIENTS if client.name in found]
    return page[: table.start()] + HEAD + "".join(named) + page[table.end() :]


def differing(page: str, rows: list[str]) -> list[str]:
    """The clients whose rows say anything else than the page, but for the version."""
    before = _by_name(_rows(_table(page)[0]))
    return [
        name
        for name, now in _by_name(rows).items()
        if name not in before or _without_version(now) != _without_version(before[name])
    ]


def _table(page: str) -> re.Match[str]:
    table = re.search(r"\| client \| version .*?\n(?=\n)", page, re.DOTALL)
    if table is None:
        raise ValueError(f"{PAGE}: expected a table of clients, got none")
    return table


def _rows(table: str) -> list[str]:
    return table.splitlines(keepends=True)[2:]


def _by_name(rows: list[str]) -> dict[str, str]:
    return {one.split(" | ")[0].removeprefix("| "): one for one in rows}


def _without_version(row: str) -> str:
    name, _, *rest = row.split(" | ")
    return " | ".join([name, *rest])


if __name__ == "__main__":
    sys.exit(main())
