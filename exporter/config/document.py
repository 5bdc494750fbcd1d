"""A YAML file as values that know their place, and all of its problems at once."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

from exporter.config.problems import ConfigError, Invalid, Problem

T = TypeVar("T")
D = TypeVar("D")

_TAG = "tag:yaml.org,2002:"
_KINDS = {
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
    "timestamp": "a date",
}
_MAX_SHOWN = 60

MAX_VALUES = 500_000
"""In a file, where an alias counts as all that it stands for; reading so many takes 20 s."""

_TOO_MANY = f"expected at most {MAX_VALUES:_} values, those behind aliases counted each time"

MAX_PROBLEMS = 1000
"""That are reported of one file."""

# YAML takes an unquoted text after these signs for a name, and its errors quote what may be a
# secret.
_QUOTED_NAME = re.compile(r"(alias|anchor|handle) .*")

_PLAIN_KEY = re.compile(r"[\w./:@-]{1,60}")


class NamedFile(NamedTuple):
    """A value that names another file.

    Attributes:
        value: where it stands.
        path: the file meant.
        secret: whether a secret is kept there, so that somebody may have written it here.
    """

    value: "Value"
    path: Path
    secret: bool


@dataclass(frozen=True, slots=True)
class Document:
    """One file while it is read.

    Attributes:
        name: its path, for messages and to find files named relative to it.
        problems: what was found wrong so far.
        deprecated: what is accepted still, and what to write instead.
        files: the values that name other files.
    """

    name: str
    problems: list[Problem] = field(default_factory=list)
    deprecated: list[Problem] = field(default_factory=list)
    files: list[NamedFile] = field(default_factory=list)

    def compose(self, text: str) -> "Value | None":
        """Return the root value; None for an empty file, or after noting that it is no YAML."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as exc:
            line = exc.problem_mark.line + 1 if exc.problem_mark else 0
            said = ", ".join(part for part in (exc.context, exc.problem) if part)
            self.note(line, "", "not YAML: " + _QUOTED_NAME.sub(r"\1", said))
        except yaml.reader.ReaderError as exc:
            line = text.count("\n", 0, exc.position) + 1
            self.note(line, "", f"not YAML: the character U+{exc.character:04X} is not allowed")
        except RecursionError:
            self.note(0, "", "nested too deeply")
        else:
            if node is None:
                return None
            if _values(node) <= MAX_VALUES:
                return Value(node, "", 1, self)
            self.note(0, "", _TOO_MANY)
        return None

    def note(self, line: int, path: str, message: str) -> None:
        """Remember a problem."""
        self.problems.append(Problem(self.name, line, path, message))

    def finish(self) -> None:
        """Raise a ConfigError if there were problems."""
        if self.problems:
            problems = sorted(self.problems, key=lambda problem: problem.line)
            if more := problems[MAX_PROBLEMS:]:
                problems[MAX_PROBLEMS:] = [Problem(self.name, 0, "", f"{len(more)} more problems")]
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the file.

    Readers turn it into what is meant or raise Invalid; only `read` catches that. Whoever gets
    a default for an invalid value may go on to find more problems: the file is refused anyway.
    """

    node: yaml.Node
    path: str
    line: int
    document: Document

    def read(self, reader: Callable[["Value"], T], default: D) -> T | D:
        """Return what `reader` makes of the value, or note its problem and return `default`."""
        try:
            return reader(self)
        except Invalid as exc:
            self.note(f"{exc}, got {exc.got or self.shown}")
            return default

    def note(self, message: str) -> None:
        """Remember a problem of this value."""
        self.document.note(self.line, self.path, message)

    def deprecate(self, instead: str) -> None:
        """Remember that this value is accepted still, but will not be."""
        problem = Problem(self.document.name, self.line, self.path, f"deprecated, {instead}")
        self.document.deprecated.append(problem)

    def tagged(self, *kinds: str) -> bool:
        """Whether YAML takes it for one of these kinds of scalar (`int`, `bool`, `null`, …)."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag in {
            _TAG + kind for kind in kinds
        }

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def raw(self) -> str:
        """A scalar as it is written, without quotes."""
        return str(self.node.value)

    @property
    def shown(self) -> str:
        """The value as a message shows it."""
        if self.is_mapping or self.is_list:
            return "a mapping" if self.is_mapping else "a list"
        if self.tagged("null"):
            return "nothing"
        return repr(_shortened(self.raw)) if self.tagged("str") else _shortened(self.raw)

    def word(self, expected: str) -> str:
        """Return the text of a scalar that YAML takes for one."""
        if not self.tagged("str"):
            raise Invalid(expected)
        return self.raw

    def text(self, expected: str) -> str:
        """Like `word`, for free texts: the message tells who wrote `on` or `123` to quote it."""
        for kind, name in _KINDS.items():
            if self.tagged(kind):
                raise Invalid(expected, f"{self.shown}, which YAML reads as {name} unless quoted")
        return self.word(expected)

    def entries(self) -> dict[str, "Value"]:
        """Return the values of a mapping by key; nothing at all is an empty mapping."""
        if self.tagged("null"):
            return {}
        if not self.is_mapping:
            raise Invalid("expected a mapping")
        found: dict[str, Value] = {}
        for key_node, node in self.node.value:
            line = key_node.start_mark.line + 1
            key = Value(key_node, self.path, line, self.document).read(_key, None)
            if key is None:
                continue
            value = Value(node, self._path_to(key), line, self.document)
            if key in found:
                value.note(f"given twice, first on line {found[key].line}")
            else:
                found[key] = value
        return found

    def _path_to(self, key: str) -> str:
        if not _PLAIN_KEY.fullmatch(key):
            return f"{self.path}[{_shortened(key)!r}]"
        return f"{self.path}.{key}" if self.path else key

    def items(self) -> list["Value"]:
        """Return the values of a list; nothing at all is an empty list."""
        if not self.is_list and not self.tagged("null"):
            raise Invalid("expected a list")
        return [
            Value(node, f"{self.path}[{index}]", node.start_mark.line + 1, self.document)
            for index, node in enumerate(self.node.value if self.is_list else ())
        ]

    def table(self, *known: str) -> "Table":
        """Return a mapping with these keys and no others."""
        entries = self.entries()
        for key, value in entries.items():
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(known)}"
                value.note(f"unknown key, {hint}")
        return Table(self, entries)


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping whose keys have meanings."""

    value: Value
    entries: dict[str, Value]

    def read(self, key: str, reader: Callable[[Value], T], default: D) -> T | D:
        """Return what `reader` makes of the key's value; `default` when absent or invalid."""
        value = self.entries.get(key)
        return default if value is None else value.read(reader, default)

    def need(self, key: str, reader: Callable[[Value], T], default: D) -> T | D:
        """Like `read`, but an absent key is a problem."""
        if key not in self.entries:
            self.value.note(f"the key {key} is missing")
        return self.read(key, reader, default)


def _values(root: yaml.Node) -> int:
    """How many there are with every alias written out; more than MAX_VALUES are not counted."""
    sizes: dict[int, int] = {}
    open_nodes: list[yaml.Node] = [root]
    while open_nodes:
        node = open_nodes[-1]
        parts = _parts(node)
        if id(node) not in sizes:
            sizes[id(node)] = MAX_VALUES + 1  # what one that holds itself finds
            open_nodes += [part for part in parts if id(part) not in sizes]
        else:
            open_nodes.pop()
            total = 1 + sum(sizes[id(part)] for part in parts)
            sizes[id(node)] = min(total, MAX_VALUES + 1)
    return sizes[id(root)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _key(key: Value) -> str:
    return key.text("expected a text as key")
