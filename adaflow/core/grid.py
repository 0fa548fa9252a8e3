"""Contact sheets: many images in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
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


def label_rows(sheet: Tensor, labels: Sequence[str]) -> Tensor:
    """A sheet with words to the left of its rows, black on white.

    Args:
        sheet: uint8 [C, H, W], with rows of equal height, one for each label.
        labels: the words.

    Returns:
        uint8 [C', H, W'], C' = 1 or 3: what `to_pil` shows, wider by the words.
    """
    picture = to_pil(sheet)
    height = picture.height / len(labels)
    font = ImageFont.load_default(min(max(height / 4, 11), 18))
    left = max(round(font.getlength(label)) for label in labels) + 12
    wider = Image.new(picture.mode, (left + picture.width, picture.height), "white")
    wider.paste(picture, (left, 0))
    pen = ImageDraw.Draw(wider)
    for row, label in enumerate(labels):
        pen.text((left - 6, (row + 0.5) * height), label, "black", font, anchor="rm")
    array = np.asarray(wider)
    return torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())


def save_png(path: Path, image: Tensor) -> None:
    """Write uint8 [C, H, W] as a PNG, whole."""
    with committed(path) as file:
        to_pil(image).save(file, format="PNG")
