"""Makes docs/augmentations.md and its pictures: `python docs/make_augmentations.py`. A test compares the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaflow.core.augment import build_pipeline
from adaflow.core.augment.preview import preview_sheet
from adaflow.core.augment.safety import analyse
from adaflow.core.augment.safety_plot import CURVE, plot_safety
from adaflow.core.augment.show import show_transform
from adaflow.core.data.source import open_source
from adaflow.core.grid import to_pil
from adaflow.plugin_manager import PluginManager

DOCS = Path(__file__).parent
PICTURES = "images/augmentations"
RESOLUTION = 256
DATA = "demo:lesions,resolution=96,images=7"
ALL = "bgcfnc"
GROUPS = {
    "blit": "what only moves whole pixels, so that images are copied exactly",
    "geom": "affine maps of the plane",
    "color": "affine maps of the colours",
    "filter": "octaves of the spectrum, amplified or weakened",
    "noise": "white noise",
    "cutout": "a blank rectangle",
}

HEAD = """# Augmentations

The 18 transforms that come with adaflow (Karras et al. 2020, arXiv 2006.06676, App. B), in the order in which they act.
Each fires for each image by itself, with probability p × weight. This page is made by `docs/make_augmentations.py` from
the transforms themselves.

```sh
adaflow augs list                                              # all there are, those of plugins included
adaflow augs show xint                                         # one of them: settings, draws, source, safety
adaflow augs preview "xint(max=0.3)" --p 0.5,1                 # what it does, at random
adaflow augs preview bgc --strength 5,25,50,75,95              # and from weak to strong
adaflow augs safety bgc --p 0.1,0.5,0.8 --plot safety.png      # can it leak?
```

`bg` stands for `blit,geom`, `bgc` adds `color`, `bgcf` `filter`, `bgcfn` `noise`, and `bgcfnc` `cutout`.

"""

SAFETY = """## Can it leak?

A generator learns the images as they are, although the discriminator sees augmented ones only, as long as distributions
of images that differ still differ once they are augmented. What a transform does to distributions is the operator
(1 - p)·I + p·E[T]. Where its maps add up, as shifts and turns do, its eigenvalues are 1 - p + p·φ(ω), where φ is the
characteristic function of the number it draws (App. C). At an eigenvalue of 0, two distributions look the same, and the
generator may end at the wrong one. Near to 0, it is hard to tell them apart: to undo 0.03 is to amplify noise 33 times.

`adaflow augs safety` computes this from what a transform draws, without knowing it by name: it reads the numbers off
16,384 matrices, at evenly spread quantiles. "never" means at no p, up to 1; there, 1 - p is a bound, approached for
ever finer detail. For images of {resolution} × {resolution} pixels:

{table}

![The smallest eigenvalue against p]({pictures}/safety.png)

- **`xint`** draws from a uniform distribution, the φ of which is negative at places. 0 is reached at p = 0.889 for 16
  pixels, 0.837 for 32, 0.825 for 64, 0.8225 for 128, 0.8218 for 256, 0.8216 for 512. Hues or turns over a part of the
  circle, as in `hue(max=0.5)`, are like it.
- **The filter bands** have a log-normal gain, which by itself is never singular. But the power of the filter is
  normalised, which moves all bands at once, along a curve: of the band and the others together there are zeros, and so
  above p = 0.78 a difference is lost, one between fine shades of contrast.
- **`cutout`** forms no group, for what it blanks cannot be brought back. Its eigenvalues are the chances that a set of
  pixels is spared (Brown 2000, "Semigroups, rings, and Markov chains"); the smallest is that of all pixels.
- **`noise`** is seen along six directions of the space of images, to ±0.06.

Eigenvalues are known to ±0.005. Frequencies go up to 40 over the mean deviation of the number, or 20 for two numbers at
once: a zero beyond is not seen. Each transform is looked at by itself, and an image is taken for endless. And a zero is
not yet a leak, nor is a leak always a zero: in practice colours leak first, and p is kept under 0.8. To know what
leaked, `adaflow leakcheck` looks at generated images ([leakcheck.md](leakcheck.md)).

Of your own transforms, matrices, gains, noise that is added and pixels that are replaced are understood. Of another
transform of pixels that can be undone, its class may say what adds up when it acts twice:

```python
def group_parameter(self, draw):
    return draw.normal(self.std), math.inf  # and the period: math.inf for a line
```

"""


def page() -> str:
    """The text of the page."""
    manager = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    names = {g: [a.name for a in build_pipeline(g, manager.augmentations).transforms] for g in GROUPS}
    facts = {name: show_transform(name, manager, RESOLUTION) for members in names.values() for name in members}
    rows = ["| transform | in | draws at 5, 50, 95 % | at p = 0.8 | 0 from |", "|--|--|--|--|--|"]
    rows += [_row(group, facts[name]) for group, members in names.items() for name in members]
    parts = [HEAD, SAFETY.format(resolution=RESOLUTION, table="\n".join(rows), pictures=PICTURES)]
    for group, meaning in GROUPS.items():
        parts.append(f"## `{group}`: {meaning}\n\n")
        parts += [_section(facts[name]) for name in names[group]]
    return "".join(parts).rstrip() + "\n"


def _row(group: str, facts: dict[str, Any]) -> str:
    """A line of the table."""
    safety = facts["safety"]
    drawn = [f"{draw['number']}: {draw['words']}" for draw in facts["draws"]] or ["the centre of a rectangle"]
    last = "never" if safety["singular_at"] is None else f"p = {safety['singular_at']:.2g}"
    (value,) = [row["smallest_eigenvalue"] for row in safety["p"] if row["p"] == 0.8]
    return f"| `{facts['name']}` | `{group}` | {'; '.join(drawn)} | {value:.3f} | {last} |"


def _section(facts: dict[str, Any]) -> str:
    """What is said of one transform."""
    lines = [f"### `{facts['name']}`\n\n{facts['summary']}\n"]
    for setting in facts["settings"]:
        low, high = ("∞" if bound is None else f"{bound:g}" for bound in (setting["low"], setting["high"]))
        lines.append(f"- `{setting['name']} = {setting['default']}`, {low} … {high}: {setting['meaning']}\n")
    lines.append(f"![{facts['name']}]({PICTURES}/{facts['name']}.jpg)\n")
    return "\n".join(lines) + "\n"


def draw_pictures() -> None:
    """A picture of each transform, firing for all images, and that of the eigenvalues."""
    manager = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    folder = DOCS / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    transforms = build_pipeline(ALL, manager.augmentations).transforms
    with open_source(DATA, manager.datasets) as source:
        for active in transforms:
            sheet = preview_sheet(build_pipeline(active.name, manager.augmentations), source, len(source), [1.0])
            to_pil(sheet).save(folder / f"{active.name}.jpg", quality=85, optimize=True)
    curves = [analyse(active, CURVE, RESOLUTION) for active in transforms]
    plot_safety(curves).quantize(64).save(folder / "safety.png", optimize=True)


if __name__ == "__main__":
    (DOCS / "augmentations.md").write_text(page(), encoding="utf-8")
    draw_pictures()
