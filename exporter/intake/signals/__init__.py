"""Provider responses (status, headers, body) as signals about the quota behind them.

A format is recognised by what a response carries, since a provider may have any name. One file
per family of formats yields the windows it reports (`family(response) -> Iterable[Window]`);
`judge` weighs them, so that a new format is one file and one line there.
"""

from exporter.intake.signals.items import read
from exporter.intake.signals.judge import MIN_QUOTA_SECONDS, read_response

__all__ = ["MIN_QUOTA_SECONDS", "read", "read_response"]
