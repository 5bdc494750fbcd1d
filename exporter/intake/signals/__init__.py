"""Provider responses (status, headers, body) as signals about the quota behind them.

A format is recognised by what a response carries, since a provider may have any name. One file
per family of formats yields the windows it reports (`family(response) -> Iterable[Window]`);
`judge` weighs them, so that a new format is one file and one line there.
"""

from exporter.intake.signals.items import read
from exporter.intake.signals.judge import SHORTEST_QUOTA, read_response

__all__ = ["SHORTEST_QUOTA", "read", "read_response"]
