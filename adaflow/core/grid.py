"""Contact sheets: many images in one PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adaflow.core.files import committed


def grid_size(resolution: int) -> tuple[int, int]:
    """Columns and rows of a sheet about a thousand pixels wide."""
    return min(max(1024 // resolution, 4), 16), min(max(768 // resolution, 3), 12)


def join_images(images: Tensor, columns: int) -> Tensor:
    """Lay images out in rows.

    Args:
        images: uint8 [N, C, H, W].
        columns: images per row.

    Returns:
        uint8 [C, rows·H, columns·W]; missing images at the end are black.
    """
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    sheet = torch.zeros(rows * columns, channels, height, width, dtype=torch.uint8)
    sheet[:n] = images.cpu()
    sheet = sheet.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return sheet.reshape(channels, rows * height, columns * width)


def to_pil(image: Tensor) -> Image.Image:
    """uint8 [C, H, W] as a picture: 1 and 2 channels show the first as grey, 3 and 4 show RGB."""
    array = image.cpu().numpy()
    if len(array) < 3:
        return Image.fromarray(array[0], "L")
    return Image.fromarray(np.ascontiguousarray(array[:3].transpose(1, 2, 0)), "RGB")


def save_png(path: Path, image: Tensor) -> None:
    """Write uint8 [C, H, W] as a PNG, whole."""
    with committed(path) as file:
        to_pil(image).save(file, format="PNG")
