"""Small neural networks, and the coefficients they were fitted to.

`coefficients.npz` is fitted by `tests/benchmarks/fit_forecast.py` on the public ServeGen trace
(https://github.com/alibaba/ServeGen, Apache-2.0, arXiv 2505.09999), on counts with true weekdays
from the Numenta Anomaly Benchmark (https://github.com/numenta/NAB, MIT) and on simulated series.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats

Fitted = Mapping[str, NDArray[np.floating]]
"""Arrays by name: `alike` or `moment`, a dot, and `mean`, `deviation`, `edges` (if inputs
are at_quantiles), or a layer's weight or bias; layers have the members of an ensemble first."""

_Singles = NDArray[np.floating]

CLIP = 4.0
"""Standardised inputs are held within this many standard deviations."""
_THINNEST = 1e-3
"""A part that holds but one value tells what is above it."""

with (files(__package__) / "coefficients.npz").open("rb") as _file:
    FITTED: Fitted = {name: array.astype(np.float32) for name, array in np.load(_file).items()}


def networks(inputs: Floats, fitted: Fitted, kind: str) -> Iterator[tuple[Floats, Floats]]:
    """Yield each member's last and last hidden layer."""
    standard = (inputs - fitted[f"{kind}.mean"]) / fitted[f"{kind}.deviation"]
    values: _Singles = np.clip(standard, -CLIP, CLIP).astype(np.float32)
    if (edges := fitted.get(f"{kind}.edges")) is not None:
        values = at_quantiles(values, edges)
    for member in range(fitted[f"{kind}.last.bias"].shape[0]):
        first = swish(layer(values, fitted, f"{kind}.first", member))
        second = swish(layer(first, fitted, f"{kind}.second", member))
        yield layer(second, fitted, f"{kind}.last", member), second


def at_quantiles(values: _Singles, edges: _Singles) -> _Singles:
    """Return how far each input has come through each part of its range, from 0 to 1.

    The first layer can then bend at every edge: "On Embeddings for Numerical Features in Tabular
    Deep Learning", arXiv 2203.05556. `edges` has a row per input.
    """
    width = np.maximum(np.diff(edges, axis=1), _THINNEST)
    share: _Singles = (values[:, :, None] - edges[:, :-1]) / width
    return np.clip(share, 0, 1, out=share).reshape(len(values), -1)


def layer(values: _Singles, fitted: Fitted, name: str, member: int) -> Floats:
    """Return one layer's values before its activation."""
    result: Floats = values @ fitted[f"{name}.weight"][member] + fitted[f"{name}.bias"][member]
    return result


def swish(values: Floats) -> Floats:
    """x times its logistic share, the activation of hidden layers."""
    return values * sigmoid(values)


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), which overflows for no x in this form."""
    share: Floats = (1 + np.tanh(values / 2)) / 2
    return share
