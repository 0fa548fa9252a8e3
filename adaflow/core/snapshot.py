"""Network snapshots: `.pkl` files with G, D and the averaged G, made of tensors and plain values, no code."""

from __future__ import annotations

import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from adaflow.core.files import committed, verify_zip
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.errors import ConfigError, FileError

FORMAT = "adaflow-network"
VERSION = 1


@dataclass(frozen=True)
class NetworkFile:
    """What a network snapshot holds.

    Args:
        G, D, G_ema: the networks, in evaluation mode, without gradients.
        info: plain values: `images`, `p`, `augs`, `data` (summary of the training set), `config` of the run.
    """

    G: Generator
    D: Discriminator
    G_ema: Generator
    info: dict[str, Any]


def save_network(path: Path, G: Generator, D: Discriminator, G_ema: Generator, info: dict[str, Any]) -> None:
    """Write a snapshot whole."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "generator": asdict(G.config),
        "discriminator": asdict(D.config),
        "G": G.state_dict(),
        "D": D.state_dict(),
        "G_ema": G_ema.state_dict(),
        "info": info,
    }
    path.parent.mkdir(exist_ok=True)
    with committed(path) as file:
        torch.save(content, file)


def load_network(path: str | Path, device: torch.device | str = "cpu") -> NetworkFile:
    """Read a snapshot. Nothing in the file is executed.

    Raises:
        FileError: missing, damaged, or not a network of adaflow.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}", "Networks are in a run's snapshots/, the newest is run.pkl.")
    if not zipfile.is_zipfile(path):
        raise FileError(
            f"{path} is not a network of adaflow",
            "It is damaged or comes from another program; adaflow never runs the code that such pickles carry.",
        )
    verify_zip(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise FileError(f"{path} is not a network of adaflow", "It may come from another program.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path} is not a network of adaflow", "A checkpoint is resumed by its run folder.")
    if content.get("version") != VERSION:
        raise FileError(f"{path} was written by another version of adaflow (format {content.get('version')})")
    try:
        G = Generator(GeneratorConfig(**content["generator"]))
        D = Discriminator(DiscriminatorConfig(**content["discriminator"]))
        G_ema = Generator(G.config)
        for network, name in ((G, "G"), (D, "D"), (G_ema, "G_ema")):
            network.load_state_dict(content[name])
            network.eval().requires_grad_(False).to(device)
        return NetworkFile(G, D, G_ema, _tables(dict(content["info"])))
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise FileError(f"{path} is damaged: it does not hold the networks it describes") from error


def _tables(info: dict[str, Any]) -> dict[str, Any]:
    """The same, if what should be tables in it are.

    Raises:
        TypeError: one is not.
    """
    config = info.get("config", {})
    tables = [info.get("data", {}), config]
    if isinstance(config, dict):
        tables += [config.get(name, {}) for name in ("augment", "data", "schedule")]
    if not all(isinstance(table, dict) for table in tables):
        raise TypeError("a table is none")
    return info


def point_to(link: Path, target: Path) -> None:
    """Make `link` name `target`, in one step; a copy where the file system has no links."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(target, link.parent))
        temporary.replace(link)
    except OSError:
        with committed(link) as file:
            file.write(target.read_bytes())
