"""Presets: the customary configurations of StyleGAN2-ADA, and one for CPUs.

Sources: arXiv 2006.06676, appendix C, and the settings its authors published with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from adaflow.config import Table
from adaflow.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """One row of the table of presets.

    Args:
        kimg: length of the run.
        batch: images per step.
        mbstd: group of the minibatch standard deviation.
        fmaps: channels, as a factor on channel_base 32768.
        lr: learning rate of both networks.
        gamma: weight of R1.
        ema_kimg: half-life of the averaged generator.
        rampup: its ramp-up, or None.
        mapping: layers of the mapping network.
        channel_max: most channels of a layer.
        tick_kimg: thousand images per tick.
        snap: ticks per snapshot.
    """

    kimg: float
    batch: int
    mbstd: int
    fmaps: float
    lr: float
    gamma: float
    ema_kimg: float
    rampup: float | None
    mapping: int
    channel_max: int = 512
    tick_kimg: float = 4
    snap: int = 50


def _auto(resolution: int, gpus: int) -> Preset:
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    return Preset(
        kimg=25000,
        batch=batch,
        mbstd=min(batch // gpus, 4),
        fmaps=1 if resolution >= 512 else 0.5,
        lr=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema_kimg=batch * 10 / 32,
        rampup=0.05,
        mapping=2,
    )


def _tiny(resolution: int, gpus: int) -> Preset:
    return Preset(
        kimg=200,
        batch=32,
        mbstd=4,
        fmaps=8 * resolution / 32768,
        lr=0.0025,
        gamma=0.1 * (resolution / 32) ** 2,
        ema_kimg=10,
        rampup=0.05,
        mapping=2,
        channel_max=64,
        tick_kimg=1,
        snap=10,
    )


_FIXED = {
    "stylegan2": Preset(25000, 32, 4, 1, 0.002, 10, 10, None, 8),
    "paper256": Preset(25000, 64, 8, 0.5, 0.0025, 1, 20, None, 8),
    "paper512": Preset(25000, 64, 8, 1, 0.0025, 0.5, 20, None, 8),
    "paper1024": Preset(25000, 32, 4, 1, 0.002, 2, 10, None, 8),
    "cifar": Preset(100000, 64, 32, 1, 0.0025, 0.01, 500, 0.05, 2),
}
NAMES = ("auto", "tiny", *_FIXED)


def preset_table(name: str, resolution: int, channels: int, c_dim: int, gpus: int) -> Table:
    """The settings of a preset for given data, as a table to lay others over.

    Args:
        name: one of `NAMES`.
        resolution: of the images, in pixels.
        channels: of the images.
        c_dim: length of the labels, 0 without.
        gpus: number of processes; `auto` scales its batch with it, and all round it up to what they can share.

    Raises:
        ConfigError: unknown name.
    """
    if name == "auto":
        preset = _auto(resolution, gpus)
    elif name == "tiny":
        preset = _tiny(resolution, gpus)
    elif name in _FIXED:
        preset = _FIXED[name]
    else:
        raise ConfigError(f"there is no preset {name!r}", f"Known: {', '.join(NAMES)}.")
    portion = gpus * min(preset.mbstd, -(-preset.batch // gpus))
    preset = replace(preset, batch=-(-preset.batch // portion) * portion)
    network = {
        "c_dim": c_dim,
        "img_resolution": resolution,
        "img_channels": channels,
        "channel_base": round(preset.fmaps * 32768),
        "channel_max": preset.channel_max,
    }
    table: Table = {
        "preset": name,
        "generator": {**network, "mapping_layers": preset.mapping},
        "discriminator": {**network, "mbstd_group_size": preset.mbstd},
        "loss": {"r1_gamma": preset.gamma},
        "optimizer": {"g_lr": preset.lr, "d_lr": preset.lr},
        "schedule": {
            "kimg": preset.kimg,
            "batch": preset.batch,
            "ema_kimg": preset.ema_kimg,
            "ema_rampup": preset.rampup,
            "tick_kimg": preset.tick_kimg,
            "snap": preset.snap,
        },
    }
    if name == "cifar":
        table["loss"] |= {"pl_weight": 0.0, "style_mixing": 0.0}
        table["discriminator"]["architecture"] = "orig"
    return table
