"""ChatGPT plans as the Codex backend reports them: two windows per limit, used in percent.

There is no public documentation; the names are those openai/codex reads (`codex-rs`, rate limit
snapshots): headers of answers, and `codex.rate_limits` events over a WebSocket.
"""

import re
from collections.abc import Iterator, Mapping

from exporter.core.signal import Limit
from exporter.core.windows import format_duration
from exporter.intake.signals.response import LimitState, Response, mapping
from exporter.intake.signals.values import moment, number

_USED = re.compile(r"(x-codex-(?:([\w-]+)-)?(?:primary|secondary))-used-percent")
_MAX_MINUTES = 366 * 24 * 60  # what is longer is no window
_RESETS = ("reset-at", "reset-after-seconds")


def windows(response: Response) -> Iterator[LimitState]:
    headers = response.headers
    for match in filter(None, map(_USED.fullmatch, sorted(headers))):
        header, family = match.groups()
        fields = ("used-percent", "window-minutes", *_RESETS)
        values = {field: headers.get(f"{header}-{field}") for field in fields}
        yield from _window(family or "", values, response)

    family = str(response.event.get("limit_name") or "").lower()
    for slot in ("primary", "secondary"):
        values = {
            str(field).replace("_", "-"): value
            for field, value in mapping(response.event.get(slot)).items()
        }
        yield from _window("" if family == "codex" else family, values, response)


def _window(family: str, values: Mapping[str, object], response: Response) -> Iterator[LimitState]:
    used, minutes = number(values.get("used-percent")), number(values.get("window-minutes"))
    if used is None or not minutes or minutes > _MAX_MINUTES:
        return  # a plan without this window sends zeros or nothing
    resets = (moment(values.get(field), response.at) for field in _RESETS)
    reset = next((end for end in resets if end is not None), None)
    name = "_".join(filter(None, [family, format_duration(minutes * 60)])).replace("-", "_")
    # The plan's own windows are those of the account (CLIProxyAPI#5286), a further family is
    # that of some model, and none says of which.
    model = response.asked if family else ""
    limit = Limit(
        name,
        utilization=used / 100,
        reset_at=reset,
        unit="share",
        model=model,
        window=minutes * 60,
    )
    yield LimitState(name, minutes * 60, used >= 100, reset, limit, model)
