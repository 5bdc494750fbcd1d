"""Ratios as the model is told of them: logarithms, bounded, and steady where there is little."""

import numpy as np

from exporter.core.forecast.history import Floats

MIN_RATIO = 2.5e-3
"""Use in an earlier day counts as at least this part of the scale, and at most its inverse."""


def log_ratio(value: Floats, reference: Floats, floor: Floats) -> Floats:
    bounded: Floats = np.clip(np.log((value + floor) / (reference + floor)), -6.0, 6.0)
    return bounded


def floor_of(scale: Floats) -> Floats:
    return 3e-3 * np.where(scale > 0, scale, 1.0)
