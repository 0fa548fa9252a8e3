"""The augmentation pipeline: what a transform is, how transforms are composed and applied.

Karras et al. 2020, arXiv 2006.06676, App. B.
"""

from adaflow.core.augment.build import build_pipeline
from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline

__all__ = ["ActiveTransform", "AugmentPipeline", "build_pipeline"]
