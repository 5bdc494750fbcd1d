"""What is wrong with a configuration file."""

from typing import NamedTuple


class Problem(NamedTuple):
    """One thing wrong with a configuration file.

    Attributes:
        file: name of the file.
        line: counted from 1; 0 when it concerns the file as a whole.
        path: `budgets.openai[1].tokens`; empty when it concerns no single value.
        message: what is wrong, and the offending value.
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. Attributes: problems, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Invalid(Exception):
    """Raised by a reader: what it expected, and what it got unless the value shows that."""

    def __init__(self, expected: str, got: str = "") -> None:
        super().__init__(expected)
        self.got = got
