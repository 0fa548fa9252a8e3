"""The nearest thing in kornia: flip, affine map and colour jiggle, each with its own gate per image."""

from __future__ import annotations

from torch import nn


def kornia_pipe(p: float) -> nn.Module:
    """Augments images [N, 3, H, W] in [0, 1], the range its colour transforms want. It is not antialiased."""
    import kornia.augmentation as K  # slow to import, and wanted for this side only

    return nn.Sequential(
        K.RandomHorizontalFlip(p=p),
        K.RandomAffine(degrees=180.0, translate=(0.125, 0.125), scale=(0.75, 1.33), p=p),
        K.ColorJiggle(brightness=0.2, contrast=0.5, saturation=0.5, hue=0.5, p=p),
    )
