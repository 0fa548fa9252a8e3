"""`adaflow data show`: contact sheets of the classes of a data set, and of its most unusual images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adaflow.core.data.geometry import Geometry, fit
from adaflow.core.data.labelling import Labelling, label_images
from adaflow.core.data.parallel import Progress, ordered_map
from adaflow.core.data.source import ImageSource, printable, read_or_error
from adaflow.core.files import committed
from adaflow.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adaflow.core.features import FeatureExtractor

COLUMNS = 8
LINE = 16
"""Height of a line of text in pixels."""

NEIGHBOURS = 5
FEATURE_SIDE = 128
FEATURES_AT_ONCE = 32


@dataclass(frozen=True)
class ShowConfig:
    """What to draw.

    Args:
        out: folder for the sheets; it exists.
        per_class: images on the sheet of a class, at least 1.
        unusual: images on the sheet of unusual ones; 0 for no such sheet.
        features_of: images among which the unusual ones are sought, chosen by the seed; it bounds the time.
        seed: of the choice and order of images.
        labels: where the labels are, see `label_images`.
        name_column: column of the image names in the table; None finds it.
        label_column: column of the labels; None finds it.
        workers: threads.
    """

    out: Path
    per_class: int = 32
    unusual: int = 32
    features_of: int = 5000
    seed: int = 0
    labels: str = "auto"
    name_column: str | None = None
    label_column: str | None = None
    workers: int = 2


def show(
    source: ImageSource, config: ShowConfig, extractor: FeatureExtractor | None = None, progress: Progress | None = None
) -> list[Path]:
    """Draw a sheet for each class, or one for all images, and one of the most unusual images.

    The unusual ones are those whose 5 nearest others, in the space of the extractor's features, are farthest away.
    Images keep their aspect ratio. Those that cannot be read are passed over.

    Args:
        source: the images.
        config: what to draw.
        extractor: of features; None leaves out the sheet of unusual images.
        progress: told how many features are done.

    Returns:
        The PNG files written: `<set>-<class>.png` for each class, or `<set>-all.png`, then `<set>-unusual.png`.

    Raises:
        DataError: no image can be read.
        FileError: a sheet cannot be written.
    """
    order = np.random.default_rng(config.seed).permutation(len(source)).tolist()
    side = _tile_side(source, order)
    paths = []
    labelling = label_images(source, config.labels, config.name_column, config.label_column)
    sheets = _sheets(labelling, order)
    for (title, indices), stem in zip(sheets.items(), _file_stems(sheets), strict=True):
        tiles = _tiles(source, indices, side, config.per_class)
        count = f"{len(indices):,} image{'s' * (len(indices) != 1)}"
        shown = f"{printable(title)}: {count}" + f", {len(tiles)} shown" * (len(tiles) < len(indices))
        paths.append(_save(config.out / f"{source.name}-{stem}.png", draw_sheet(tiles, side, shown)))
    if extractor is not None and config.unusual:
        asked = sorted(order[: config.features_of])
        indices = most_unusual(source, asked, extractor, config.workers, progress)[: config.unusual]
        if indices:
            tiles = _tiles(source, indices, side, len(indices))
            captions = [source.image_name(index) for index in indices]
            title = f"most unusual of {len(asked):,} images, the strangest first"
            paths.append(_save(config.out / f"{source.name}-unusual.png", draw_sheet(tiles, side, title, captions)))
    return paths


def draw_sheet(
    tiles: Sequence[Image.Image], side: int, title: str, captions: Sequence[str] | None = None
) -> Image.Image:
    """Tiles in rows of 8 under a title.

    Args:
        tiles: images of mode "RGB", `side` × `side`.
        side: of a tile in pixels.
        title: one line.
        captions: one line for each tile, to be put below it; shortened in the middle where too long.

    Returns:
        RGB, 8 · side wide.
    """
    font = ImageFont.load_default()
    height = side + LINE * (captions is not None)
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * side, LINE + rows * height))
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 2), _shortened(title, sheet.width - 4, draw, font), "white", font)
    for place, tile in enumerate(tiles):
        x, y = place % COLUMNS * side, LINE + place // COLUMNS * height
        sheet.paste(tile, (x, y))
        if captions is not None:
            draw.text((x + 2, y + side + 2), _shortened(captions[place], side - 4, draw, font), "white", font)
    return sheet


def most_unusual(
    source: ImageSource,
    indices: Sequence[int],
    extractor: FeatureExtractor,
    workers: int = 2,
    progress: Progress | None = None,
) -> list[int]:
    """Those of the images that can be read, the one farthest from its nearest others first; [] for fewer than 2."""
    import torch

    readable: list[int] = []
    features: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []
    for done, (index, pixels) in enumerate(
        zip(indices, ordered_map(partial(_feature_input, source), indices, workers), strict=True), start=1
    ):
        if pixels is not None:
            readable.append(index)
            batch.append(pixels)
        if len(batch) == FEATURES_AT_ONCE or (batch and done == len(indices)):
            with torch.no_grad():
                features.append(extractor(torch.from_numpy(np.stack(batch))).cpu().numpy())
            batch = []
        if progress is not None:
            progress(done, len(indices))
    if len(readable) < 2:
        return []
    distances = _distances(np.concatenate(features))
    return [readable[place] for place in np.argsort(-distances, kind="stable")]


def _distances(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean distance of each row to its nearest others, [N]; a thousand rows at a time."""
    squares = (features**2).sum(axis=1)
    neighbours = min(NEIGHBOURS, len(features) - 1)
    means = []
    for start in range(0, len(features), 1000):
        part = slice(start, start + 1000)
        distances = squares[part, None] + squares - 2 * features[part] @ features.T
        rows = np.arange(len(distances))
        distances[rows, rows + start] = np.inf
        nearest = np.partition(distances, neighbours - 1, axis=1)[:, :neighbours]
        means.append(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
    return np.concatenate(means)


def _sheets(labelling: Labelling, order: Iterable[int]) -> dict[str, list[int]]:
    """Title → images in the order given: for each class, or for all."""
    if not any(isinstance(label, int) for label in labelling.labels):
        return {"all": list(order)}
    known = labelling.class_names or ()
    by_class: dict[int, list[int]] = {}
    for index in order:
        label = labelling.labels[index]
        by_class.setdefault(label if isinstance(label, int) else -1, []).append(index)
    unlabelled = by_class.pop(-1, [])
    sheets = {known[label] if label < len(known) else f"class {label}": by_class[label] for label in sorted(by_class)}
    return sheets | ({"without label": unlabelled} if unlabelled else {})


def _file_stems(titles: Iterable[str]) -> list[str]:
    """A file name's part for each title: safe everywhere, and no two alike, whatever the case of letters."""
    taken = {"unusual"}
    stems = []
    for number, title in enumerate(titles):
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", title)[:60].strip("._-") or f"class_{number}"
        while stem.lower() in taken:
            stem = f"{stem}_{number}"
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def _tile_side(source: ImageSource, order: Iterable[int]) -> int:
    """As large as the first image that can be read, from 64 to 256 pixels."""
    reason = "it is empty"
    for index in order:
        pixels = read_or_error(source, index)
        if not isinstance(pixels, DataError):
            return int(np.clip(max(pixels.shape[1:]), 64, 256))
        reason = pixels.message
    raise DataError(f"no image of {source.name} can be read: {reason}")


def _tiles(source: ImageSource, indices: Iterable[int], side: int, count: int) -> list[Image.Image]:
    """The first images that can be read, `count` at most."""
    tiles: list[Image.Image] = []
    for index in indices:
        if len(tiles) == count:
            break
        pixels = read_or_error(source, index)
        if not isinstance(pixels, DataError):
            tiles.append(_fitted(pixels, side))
    return tiles


def _fitted(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """[C, H, W] as RGB on a black square."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return fit(image.convert("RGB"), Geometry(side, side, "pad"))[0]


def _feature_input(source: ImageSource, index: int) -> NDArray[np.uint8] | None:
    """uint8 [3, 128, 128], or None if the image cannot be read."""
    pixels = read_or_error(source, index)
    if isinstance(pixels, DataError):
        return None
    return np.ascontiguousarray(np.asarray(_fitted(pixels, FEATURE_SIDE)).transpose(2, 0, 1))


def _shortened(
    text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> str:
    """The text on one line of at most `width` pixels, with … in place of its middle; the built-in font knows Latin."""
    text = printable(text).encode("latin-1", "replace").decode("latin-1")
    kept = len(text)
    short = text
    while kept and draw.textlength(short, font) > width:
        kept -= 1
        short = text[: kept // 2] + "..." + text[len(text) - (kept - kept // 2) :]
    return short


def _save(path: Path, sheet: Image.Image) -> Path:
    with committed(path) as file:
        sheet.save(file, "PNG")
    return path
