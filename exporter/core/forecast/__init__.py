"""Who will run out, when, and how sure that is."""

from exporter.core.forecast.cases import Cases, Forecast
from exporter.core.forecast.demand import Outage, TurnedAway
from exporter.core.forecast.explain import LEARNED_DAYS, Explanation, explain
from exporter.core.forecast.first_weekend import allow_for_rest
from exporter.core.forecast.history import BIN_SECONDS, Profile, learn
from exporter.core.forecast.linear import linear, predict_linear
from exporter.core.forecast.predict import predict

__all__ = [
    "BIN_SECONDS",
    "LEARNED_DAYS",
    "Cases",
    "Explanation",
    "Forecast",
    "Outage",
    "Profile",
    "TurnedAway",
    "allow_for_rest",
    "explain",
    "learn",
    "linear",
    "predict",
    "predict_linear",
]
