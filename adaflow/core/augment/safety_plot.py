"""A picture of the smallest eigenvalue against p."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from adaflow.core.augment.safety import Safety

CURVE = [number / 100 for number in range(101)]
"""Values of p that make a smooth curve."""
SCALE = 2
"""Drawn so many times larger, and reduced, so that lines are smooth."""
WIDTH, HEIGHT = 640, 400
LEFT, TOP, RIGHT, BOTTOM = 64, 40, 24, 56
LINE = 18
"""Height of a line of the legend."""
# Okabe and Ito's colours, which most colour-blind people tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
INK, GRID = "#222222", "#dddddd"


def plot_safety(found: Sequence[Safety]) -> Image.Image:
    """The curves of several transforms; those that are the same share one line, and those not analysed have none.

    Args:
        found: with eigenvalues at enough values of p for a curve.
    """
    curves: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for safety in found:
        if safety.eigenvalues:
            points = tuple((p, round(value, 3)) for p, value in sorted(safety.eigenvalues.items()))
            curves.setdefault(points, []).append(safety.name)
    rows = [line for number, names in enumerate(curves.values()) for line in _legend(number, names)]
    height = HEIGHT + LINE * len(rows)
    picture = Image.new("RGB", (WIDTH * SCALE, height * SCALE), "white")
    pen = ImageDraw.Draw(picture)
    _axes(pen)
    for number, points in enumerate(curves):
        line = [_position(p, value) for p, value in points]
        pen.line(line, fill=COLORS[number % len(COLORS)], width=2 * SCALE, joint="curve")
    for row, (color, text) in enumerate(rows):
        y = (HEIGHT + LINE * row) * SCALE
        if color is not None:
            middle = y + LINE * SCALE // 2
            pen.line([(LEFT * SCALE, middle), ((LEFT + 24) * SCALE, middle)], COLORS[color % len(COLORS)], 2 * SCALE)
        pen.text(((LEFT + 32) * SCALE, y), text, INK, _font(13))
    return picture.resize((WIDTH, height), Image.Resampling.LANCZOS)


def _legend(number: int, names: list[str]) -> list[tuple[int | None, str]]:
    """The names of a curve in lines of ten; the first line has the curve's number, of which its colour comes."""
    return [(number if k == 0 else None, ", ".join(names[k : k + 10])) for k in range(0, len(names), 10)]


def _axes(pen: ImageDraw.ImageDraw) -> None:
    for tenth in range(0, 11, 2):
        value = tenth / 10
        pen.line([_position(0, value), _position(1, value)], GRID, SCALE)
        pen.line([_position(value, 0), _position(value, 1)], GRID, SCALE)
        x, y = _position(0, value)
        pen.text((x - 8 * SCALE, y), f"{value:g}", INK, _font(13), anchor="rm")
        x, y = _position(value, 0)
        pen.text((x, y + 8 * SCALE), f"{value:g}", INK, _font(13), anchor="mt")
    pen.line([_position(0, 1), _position(0, 0), _position(1, 0)], INK, SCALE)
    x, y = _position(0.5, 0)
    pen.text((x, y + 28 * SCALE), "p", INK, _font(14), anchor="mt")
    pen.text((8 * SCALE, 4 * SCALE), "smallest eigenvalue", INK, _font(14))


def _position(p: float, value: float) -> tuple[float, float]:
    """Where a point of the plot lies in the picture."""
    return (
        (LEFT + p * (WIDTH - LEFT - RIGHT)) * SCALE,
        (TOP + (1 - value) * (HEIGHT - TOP - BOTTOM)) * SCALE,
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)
