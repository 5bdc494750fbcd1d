"""Pages, rendered from what they show."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote

from exporter import __version__
from exporter.core.budget import Quota
from exporter.core.forecast import Explanation
from exporter.core.quota_state import Reason
from exporter.plot.ticks import short
from exporter.recorder import OUTCOMES
from exporter.snapshot import Snapshot
from exporter.templates import environment
from exporter.web.pages import words
from exporter.web.pages.condition import CRITICAL, HIGH, LIKELY, unpriced
from exporter.web.pages.curves import course, small
from exporter.web.pages.provider import ProviderPage
from exporter.web.pages.status import SORTS, StatusPage

_REASONS = {
    Reason.OPERATOR: "by operator",
    Reason.PROVIDER: "refused by the provider",
    Reason.BUDGET: "budget spent",
    Reason.PREDICTED: "predicted to be spent",
}

_MAX_SPENDERS = 20

_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A file that pages need.

    Attributes:
        body: its bytes.
        media_type: of them.
    """

    body: bytes
    media_type: str


class Notice(NamedTuple):
    """Something about the exporter itself that a person should know.

    Attributes:
        level: `warn` or `bad`.
        text: what it is.
    """

    level: str
    text: str


class Source(NamedTuple):
    """Where items came from since the start of the process.

    Attributes:
        name: the format, as metrics name it.
        counts: items by outcome, in the order of `OUTCOMES`.
        uncharged: (reason, items) that were rightly not counted.
    """

    name: str
    counts: Sequence[int]
    uncharged: Sequence[tuple[str, int]]


def _asset(package: str, path: str) -> Asset:
    body = files(package).joinpath(path).read_bytes()
    return Asset(body, _MEDIA_TYPES[path.rpartition(".")[2]] + "; charset=utf-8")


_FILES = {
    "plot.css": _asset("exporter.plot", "templates/plot.css"),
    "page.css": _asset(__package__, "assets/page.css"),
    "page.js": _asset(__package__, "assets/page.js"),
    "icon.svg": _asset(__package__, "assets/icon.svg"),
}


def _versioned(name: str) -> str:
    stem, _, kind = name.partition(".")
    return f"{stem}.{sha256(_FILES[name].body).hexdigest()[:12]}.{kind}"


_VERSIONED = {name: _versioned(name) for name in _FILES}

ASSETS: Mapping[str, Asset] = {_VERSIONED[name]: asset for name, asset in _FILES.items()}
"""By names that change with their content, so that browsers may keep them for ever."""

_TEMPLATES = environment(__package__)
_TEMPLATES.filters |= {
    "amount": words.amount,
    "allowed": words.allowed,
    "clock": words.clock,
    "configured": words.configured,
    "days": words.days,
    "duration": words.duration,
    "iso": words.iso,
    "number": lambda value: "" if value is None else short(value),
    "percent": words.percent,
    "relative": words.relative,
    "segment": lambda name: quote(name, safe=""),
    "used_of_budget": words.used_of_budget,
}
_TEMPLATES.globals |= {
    "asset": _VERSIONED.__getitem__,
    "critical": CRITICAL,
    "high": HIGH,
    "likely": LIKELY,
    "outcomes": OUTCOMES,
    "reasons": _REASONS,
    "shown_spenders": _MAX_SPENDERS,
    "sorts": SORTS,
    "version": __version__,
}
_STATUS = _TEMPLATES.get_template("status.html")
_PROVIDER = _TEMPLATES.get_template("provider.html")


def render_status(
    page: StatusPage, snapshot: Snapshot, explained: Mapping[Quota, Explanation]
) -> str:
    """The status page."""
    curves = {
        one.quota: small(course(one, explained.get(one.quota), page.at))
        for shown in page.scopes
        for one in shown.row.budgets
    }
    return _STATUS.render(
        page=page,
        now=page.at,
        root="",
        curves=curves,
        notices=notices(snapshot),
        sources=received(snapshot),
        last_push=snapshot.last_push,
    )


def render_provider(name: str, page: ProviderPage | None, root: str, now: float, meant: str) -> str:
    """The page of a provider; without a page, that nothing is known of it.

    Args:
        root: relative address of the landing page.
        meant: for one that is not known, the name that was perhaps meant.
    """
    shown: dict[str, Any] = {"name": name, "page": page, "similar": meant}
    return _PROVIDER.render(**shown, now=now, root=root)


def received(snapshot: Snapshot) -> list[Source]:
    """What came from every source of which anything came."""
    names = sorted({source for (source, _), items in snapshot.events.items() if items})
    return [
        Source(
            name,
            [snapshot.events.get((name, outcome), 0) for outcome in OUTCOMES],
            sorted(
                (reason, items)
                for (source, reason), items in snapshot.uncharged.items()
                if source == name
            ),
        )
        for name in names
    ]


def notices(snapshot: Snapshot) -> list[Notice]:
    """What is wrong with the exporter itself, or with what it is given."""
    found = []
    if not snapshot.storage_up:
        found.append(Notice("bad", "The store does not answer: nothing new is counted."))
    if missing := unpriced(snapshot):
        requests = sum(missing.values())
        names = sorted({model or provider for provider, model in missing})
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        what = "request has" if requests == 1 else "requests have"
        found.append(Notice("warn", f"{requests:,} {what} no price: {some}."))
    for what, times in snapshot.folded.items():
        if times:
            text = f"There are too many {what}s to tell apart: {times:,} usages count as other."
            found.append(Notice("warn", text))
    return found
