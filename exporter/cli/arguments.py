"""Values that several commands take."""

import argparse

from exporter.core.moment import rfc3339, unix_seconds
from exporter.core.windows import format_duration, parse_duration


def duration(text: str) -> float:
    """Seconds of a duration such as `30s`.

    Raises:
        argparse.ArgumentTypeError: it is none, or no time at all.
    """
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"expected a duration like 30s, 1h30m or 7d, got {text!r}")
    return seconds


def moment(text: str) -> float:
    """Unix seconds of an RFC 3339 time.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return unix_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected an RFC 3339 time, got {text!r}") from error


def add_scope(parser: argparse.ArgumentParser) -> None:
    """What of a provider it is about."""
    parser.add_argument("provider")
    parser.add_argument("--model", help="only this model, or pattern of models")
    parser.add_argument("--consumer", help="only for this consumer, or pattern of consumers")


def scope(options: argparse.Namespace) -> dict[str, str]:
    """The parts of a scope that were given, as the exporter takes them."""
    given = {"model": options.model, "consumer": options.consumer}
    return {name: value for name, value in given.items() if value}


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Why, for others to see."""
    parser.add_argument("--reason", default="", help="a few words that are shown with it")


def add_end(group: "argparse._ActionsContainer") -> None:
    """Until when something holds: a duration, or a moment."""
    group.add_argument("--for", dest="duration", type=duration, metavar="DURATION", help="e.g. 2h")
    group.add_argument(
        "--until", type=moment, metavar="TIME", help="RFC 3339, e.g. 2026-03-04T18:00:00Z"
    )


def end(options: argparse.Namespace) -> str:
    """When it ends, as the exporter takes it; counted by its clock where a duration was given."""
    if options.duration is not None:
        return format_duration(options.duration)
    return str(rfc3339(options.until))


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Where the store is."""
    parser.add_argument(
        "--storage.url",
        dest="storage",
        default="sqlite:///data/quota.db",
        metavar="URL",
        help="sqlite:///path, memory:// or redis://host (default: %(default)s)",
    )
