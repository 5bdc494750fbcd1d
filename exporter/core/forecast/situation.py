"""What the model is told about a series at a moment."""

from dataclasses import dataclass

from exporter.core.forecast.history import Floats, Ints


@dataclass(frozen=True, slots=True)
class Situation:
    """Cases as the model sees them.

    Attributes:
        inputs: a row of features per case.
        scale: tokens by which use in the horizon is measured; 0 when nothing is known at all.
        days: days since the first use.
        followed: what followed the present moment in each earlier day, as the logarithm of its
            ratio to the scale; nan where no such day is known.
        likeness: features of each of these days beside the present one.
        anchors: what follows if the use of the last hour goes on, or that of the last three, or
            the trend from day to day or from week to week; logarithms alike.
        steadiness: how unsteady each of these trends has been, a logarithm; nan when unknown.
        awake: what is left of the chance of any use where there never was one; 1 elsewhere.
        risen: by how much the last hour's use exceeds that of the same hour of each earlier day, a
            logarithm; nan where that cannot be told.
        even: how even the last hour's use was, from 0 to 1, less where much is ahead; 0 where
            there was none.
        trend: of single days, from day to day, a logarithm; nan when unknown or not asked for.
        uneven: deviation of the use of the last day's hours over its mean.
    """

    inputs: Floats
    scale: Floats
    days: Floats
    followed: Floats
    likeness: Floats
    anchors: Floats
    steadiness: Floats
    awake: Floats
    risen: Floats
    even: Floats
    trend: Floats
    uneven: Floats

    def take(self, rows: Ints) -> "Situation":
        """Return the given rows, repeated as they are."""
        return Situation(
            self.inputs[rows],
            self.scale[rows],
            self.days[rows],
            self.followed[rows],
            self.likeness[rows],
            self.anchors[rows],
            self.steadiness[rows],
            self.awake[rows],
            self.risen[rows],
            self.even[rows],
            self.trend[rows],
            self.uneven[rows],
        )
