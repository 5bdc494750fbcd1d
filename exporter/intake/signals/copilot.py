"""GitHub Copilot: what is left of the month, on every success.

There is no public documentation; microsoft/vscode reads these headers (`chatQuotaServiceImpl`),
and Menci/Floway#339 shows values: `ent` the entitlement (-1: unlimited), `rem` percent left,
`totRem` the amount left, `rst` the reset.
"""

from collections.abc import Iterator
from urllib.parse import parse_qs

from exporter.core.signal import Limit
from exporter.core.windows import Calendar, Unit
from exporter.intake.signals.refusals import UTC
from exporter.intake.signals.response import LimitState, Response
from exporter.intake.signals.values import moment, number

_PREFIX = "x-quota-snapshot-"
_MONTH = Calendar(Unit.MONTH, UTC)


def windows(response: Response) -> Iterator[LimitState]:
    for header, value in sorted(response.headers.items()):
        if not header.startswith(_PREFIX):
            continue
        quota = {key: values[0] for key, values in parse_qs(value, max_num_fields=20).items()}
        entitlement, percent = number(quota.get("ent")), number(quota.get("rem"))
        if not entitlement or percent is None:
            continue  # unlimited, or not of this plan
        name = header.removeprefix(_PREFIX).replace("-", "_")
        reset = moment(quota.get("rst"), response.at)
        start, end = _MONTH.window(response.at)
        limit = Limit(
            name,
            entitlement,
            number(quota.get("totRem")),
            max(0.0, 1 - percent / 100),
            reset,
            # Requests weighted by model, and credits: neither is what we count.
            unit="share",
            window=float(end - start),
        )
        yield LimitState(name, float(end - start), limit=limit)
