"""The door for a metric of image pairs: a function, its column and its protocol, registered together."""

from collections.abc import Callable

import numpy as np

from evaluation.metrics import METRICS, Metric
from evaluation.protocols import Protocol, add
from latticebench import extensions
from latticebench.errors import BadInput

PairMetric = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Originals and reconstructions, uint8 (N, H, W, 3) each -> float (N,); ValueError or NaN where it has no value."""


def register(metric: Metric, protocol: Protocol) -> Callable[[PairMetric], PairMetric]:
    """Decorator: the judge measures the function on every reconstruction, with interval, as it does PSNR.

    Raises BadInput where the metric or the protocol exists, or the protocol is not the metric's.
    """
    if metric.key in METRICS:
        raise BadInput(f"there is a metric {metric.key!r} already; another definition needs another name")
    if protocol.metrics != (metric.key,):
        raise BadInput(f"protocol {protocol.id} measures {protocol.metrics}, expected is ({metric.key!r},)")

    def keep(function: PairMetric) -> PairMetric:
        add(protocol)
        METRICS[metric.key] = metric
        extensions.register("metric", metric.key, function)
        return function

    return keep


def registered() -> dict[str, PairMetric]:
    """Functions by the metric's key."""
    return extensions.find("metric")
