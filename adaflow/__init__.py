"""adaflow: StyleGAN2 training with adaptive discriminator augmentation, built from plugins.

Public names are imported on first use, so that `import adaflow` and `adaflow --help` do not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "hookimpl": "adaflow.hookspecs",
    "parameter": "adaflow.core.augment.transform",
    "GeometryTransform": "adaflow.core.augment.transform",
    "ColorTransform": "adaflow.core.augment.transform",
    "FilterTransform": "adaflow.core.augment.transform",
    "ImageTransform": "adaflow.core.augment.transform",
    "Draw": "adaflow.core.draw",
    "PController": "adaflow.core.p_controller",
    "Observation": "adaflow.core.p_controller",
    "Method": "adaflow.core.method",
    "Batch": "adaflow.core.method",
    "Metric": "adaflow.core.metric",
    "MetricContext": "adaflow.core.metric",
    "FeatureExtractor": "adaflow.core.features",
    "NetworkExtractor": "adaflow.core.features",
    "LeakDetector": "adaflow.core.leak_detector",
    "LeakContext": "adaflow.core.leak_detector",
    "Finding": "adaflow.core.leak_detector",
    "Panel": "adaflow.core.leak_detector",
    "Logger": "adaflow.core.logger",
    "ImageSource": "adaflow.core.data.source",
    "Run": "adaflow.core.run",
    "load_network": "adaflow.core.snapshot",
}

__all__ = [
    "Batch",
    "ColorTransform",
    "Draw",
    "FeatureExtractor",
    "FilterTransform",
    "Finding",
    "GeometryTransform",
    "ImageSource",
    "ImageTransform",
    "LeakContext",
    "LeakDetector",
    "Logger",
    "Method",
    "Metric",
    "MetricContext",
    "NetworkExtractor",
    "Observation",
    "PController",
    "Panel",
    "Run",
    "__version__",
    "hookimpl",
    "load_network",
    "parameter",
]

if TYPE_CHECKING:
    from adaflow.core.augment.transform import (
        ColorTransform,
        FilterTransform,
        GeometryTransform,
        ImageTransform,
        parameter,
    )
    from adaflow.core.data.source import ImageSource
    from adaflow.core.draw import Draw
    from adaflow.core.features import FeatureExtractor, NetworkExtractor
    from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Panel
    from adaflow.core.logger import Logger
    from adaflow.core.method import Batch, Method
    from adaflow.core.metric import Metric, MetricContext
    from adaflow.core.p_controller import Observation, PController
    from adaflow.core.run import Run
    from adaflow.core.snapshot import load_network
    from adaflow.hookspecs import hookimpl


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adaflow' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
