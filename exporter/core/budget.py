"""What a provider may use."""

from dataclasses import dataclass

from exporter.core.usage import KINDS
from exporter.core.windows import Period

Weights = tuple[float, ...]
"""What a token of each kind costs, in the order of `KINDS`; 1 is a plain token."""

PLAIN: Weights = (1.0,) * len(KINDS)


@dataclass(frozen=True, slots=True)
class Budget:
    """A number of tokens per period.

    Attributes:
        tokens: weighted tokens allowed, at least 1.
        period: when the count starts over.
        weights: what a token of each kind counts.
    """

    tokens: int
    period: Period
    weights: Weights = PLAIN
