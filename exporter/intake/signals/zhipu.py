"""Zhipu (BigModel, Z.AI): the number in the error says what is spent, the text until when.

https://docs.bigmodel.cn/cn/api/api-code, https://docs.z.ai/api-reference/api-code
"""

import re
from collections.abc import Iterator

from exporter.core.signal import Refusal
from exporter.core.windows import DAY, Calendar, Unit
from exporter.intake.signals.errors import SHANGHAI, told_reset
from exporter.intake.signals.response import QUOTA, LimitState, Response

_CODES: dict[str, tuple[str, Refusal, float]] = {
    "1113": ("balance", Refusal.BILLING, QUOTA),
    "1302": ("concurrency", Refusal.RATE, 0.0),
    "1303": ("frequency", Refusal.RATE, 0.0),
    "1304": ("calls_per_day", Refusal.QUOTA, DAY),
    "1305": ("traffic", Refusal.RATE, 0.0),
    "1308": ("5h", Refusal.QUOTA, QUOTA),
    "1309": ("plan_expired", Refusal.BILLING, QUOTA),
    "1310": ("week_or_month", Refusal.QUOTA, QUOTA),
    "1312": ("overload", Refusal.OVERLOAD, 0.0),
    "1313": ("fair_use", Refusal.RATE, 0.0),
}
_TEXT = re.compile(r"^\[(1\d{3})\]|\(type=(1\d{3})\)", re.ASCII | re.MULTILINE)
_DAY = Calendar(Unit.DAY, SHANGHAI)


def windows(response: Response) -> Iterator[LimitState]:
    """What the number means, of an error that has one."""
    if response.status < 400:
        return
    match = _TEXT.search(response.words)
    code = (match[1] or match[2]) if match else str(response.error.get("code"))
    if code not in _CODES:
        return
    name, reason, length = _CODES[code]
    until = told_reset(response)
    if until is None and length == DAY:
        until = _DAY.window(response.at).end
    yield LimitState(name, length, spent=True, until=until, reason=reason)
