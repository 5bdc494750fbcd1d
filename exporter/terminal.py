"""What a person sees at a terminal: tables, and how far a long piece of work has come.

What goes into a pipe or a file is plain: no colours, and one line for each row.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

UNBOUNDED = 10_000
"""Columns of what is no terminal: whoever reads it there wants whole lines."""


def console(stream: TextIO | None = None) -> Console:
    """A console on `stream`, or on standard output as it is now."""
    file = sys.stdout if stream is None else stream
    return Console(file=file, width=None if file.isatty() else UNBOUNDED, highlight=False)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines around it; the columns named in `right` hold numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def show(shown: RenderableType, out: Console) -> None:
    """Print it: on what is no terminal as plain text."""
    if out.is_terminal:
        out.print(shown)
    else:
        print(as_text(shown), file=out.file, flush=True)


def as_text(shown: RenderableType) -> str:
    """As plain lines without space at their ends."""
    sheet = Console(width=UNBOUNDED, color_system=None, force_terminal=False)
    with sheet.capture() as captured:
        sheet.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


@contextmanager
def progress(
    steps: int, what: str, stream: TextIO | None = None
) -> Iterator[Callable[[int], None]]:
    """Show how much of `steps` is done, at a terminal and nowhere else; gives what to call with
    the number of those that are."""
    file = sys.stderr if stream is None else stream
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=console(file), transient=True, disable=not file.isatty())
    with shown:
        task = shown.add_task(what, total=steps)
        yield lambda done: shown.update(task, completed=done)
