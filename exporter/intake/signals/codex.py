"""ChatGPT plans as the Codex backend reports them: two windows per limit, used in percent.

There is no public documentation; the names are those openai/codex reads
(`codex-rs`, rate limit snapshots).
"""

import re
from collections.abc import Iterator

from exporter.core.signal import Limit
from exporter.core.windows import format_duration
from exporter.intake.signals.response import Response, Window
from exporter.intake.signals.values import moment, number

_USED = re.compile(r"(x-codex-(?:([\w-]+)-)?(?:primary|secondary))-used-percent")


def windows(response: Response) -> Iterator[Window]:
    headers = response.headers
    for match in filter(None, map(_USED.fullmatch, sorted(headers))):
        header, family = match.groups()
        used = number(headers[match[0]])
        minutes = number(headers.get(f"{header}-window-minutes"))
        if used is None or not minutes:
            continue  # a plan without this window sends zeros or nothing
        reset = moment(headers.get(f"{header}-reset-at"), response.at)
        if reset is None:
            reset = moment(headers.get(f"{header}-reset-after-seconds"), response.at)
        name = "_".join(filter(None, [family, format_duration(minutes * 60)])).replace("-", "_")
        limit = Limit(name, utilization=used / 100, reset_at=reset)
        yield Window(name, minutes * 60, used >= 100, reset, limit)
