"""Puts a leak check together: which fakes, which real images, which transforms; then asks every detector."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from adaflow import __version__
from adaflow.core.augment import build_pipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.build import build_plugin, format_item
from adaflow.core.data.dataset import DataConfig, Dataset, load_dataset
from adaflow.core.data.source import open_source
from adaflow.core.evaluate import data_of, draw_fakes
from adaflow.core.features import Extractors
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Verdict, fault_of
from adaflow.core.networks import Generator
from adaflow.core.snapshot import NetworkFile
from adaflow.core.spec import parse_spec
from adaflow.errors import AdaflowError, DataError, ExitCode, PluginError, UsageError
from adaflow.plugin_manager import PluginManager

LEAST = 100
"""Fewer fakes or real images tell nothing."""

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class LeakReport:
    """What a check found.

    Args:
        findings: of all detectors, in their order.
        facts: what was compared, plain values.
    """

    findings: tuple[Finding, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst: a leak before "cannot tell", and that before "clean"."""
        verdicts = {finding.verdict for finding in self.findings}
        return "leak" if "leak" in verdicts else "cannot tell" if "cannot tell" in verdicts else "clean"

    @property
    def exit_code(self) -> ExitCode:
        """For the shell."""
        return {"leak": ExitCode.LEAK, "cannot tell": ExitCode.CANNOT_TELL, "clean": ExitCode.OK}[self.verdict]

    def plain(self) -> dict[str, Any]:
        """For `leakcheck.json`."""
        names = ("detector", "subject", "verdict", "sentence", "advice", "rate", "interval", "smallest_seen", "details")
        rows = [{name: getattr(finding, name) for name in names} for finding in self.findings]
        whole: dict[str, Any] = _finite({"verdict": self.verdict, **self.facts, "findings": rows})
        return whole


def build_detectors(text: str, plugins: PluginManager) -> dict[str, LeakDetector]:
    """The detectors a user named, as in `--detectors "memorisation(pictures=30),collapse"`.

    Raises:
        UsageError, PluginError, ConfigError: the text cannot be read, or names or sets what there is not.
    """
    detectors: dict[str, LeakDetector] = {}
    for item in parse_spec(text):
        if item.weight is not None or not item.on:
            raise UsageError(f"a leak detector has no weight and no switch, as {item.name!r} is given in {text!r}")
        full = format_item(item.name, item.arguments)
        detectors[full] = build_plugin(full, plugins.leak_detectors)
        if not isinstance(detectors[full], LeakDetector):
            entry = plugins.leak_detectors[item.name]
            raise PluginError(
                f"leak detector {item.name!r} of plugin {entry.provider} is no LeakDetector",
                "Let its class inherit from adaflow.LeakDetector.",
            )
    if not detectors:
        raise UsageError("no leak detector is named", "Name some with --detectors, as in --detectors memorisation.")
    return detectors


def network_context(
    network: NetworkFile,
    plugins: PluginManager,
    num: int,
    data: str = "",
    augs: str | None = None,
    seed: int = 0,
    say: Say = print,
    progress: Progress = lambda what, done, total: None,
) -> LeakContext:
    """The context of a check of a network: its data, its augmentations, and fakes drawn from it.

    Args:
        network: on the device to compute on.
        plugins: for data, transforms and extractors.
        num: fakes to draw.
        data: where the data are now, or others; "" where they were in training.
        augs: transforms to look for; None: those that training used.
        seed: of everything random.
        say: told what users should know.
        progress: told as fakes are drawn.

    Raises:
        AdaflowError: the data cannot be read, do not fit the network, or a transform is unknown.
    """
    enough_images(num, "fakes", "Ask for more with --num.")
    dataset = data_of(network, data, plugins, say)
    enough_images(len(dataset.train_indices), "images to train on", "")
    config = network.info.get("config", {})
    spec = str(config.get("augment", {}).get("augs", ""))
    if augs is None and not config.get("augment"):
        say("This network does not say how its training augmented; name transforms to look for with --augs.")
    elif augs is None and spec in ("", "none"):
        say("Training used no augmentation; name transforms to look for all the same with --augs.")
    context = _data_context(dataset, plugins, next(network.G_ema.parameters()).device, seed, progress)
    images = network.info.get("images")
    trained = {"trained_kimg": images / 1000} if isinstance(images, int) else {}
    return replace(
        context,
        about={**trained, **context.about},
        fakes=leak_fakes(network.G_ema, dataset, num, seed, progress),
        **_transforms(spec if augs is None else augs, spec, plugins),
    )


def images_context(
    fakes: str,
    data: str,
    plugins: PluginManager,
    num: int,
    augs: str = "",
    seed: int = 0,
    device: torch.device = torch.device("cpu"),  # noqa: B008
    say: Say = print,
    progress: Progress = lambda what, done, total: None,
) -> LeakContext:
    """The context of a check of images that another program made.

    Args:
        fakes: a folder or zip of them.
        data: what that program was trained on.
        plugins, num, seed, say, progress: as for `network_context`; of more fakes, `num` are taken.
        augs: transforms to look for, taken for those that training used.
        device: where to compute.

    Raises:
        AdaflowError: images cannot be read, are too few, or differ in size; a transform is unknown.
    """
    chosen = _transforms(augs, augs, plugins)
    dataset = load_dataset(DataConfig(data), plugins.datasets, seed, say=say, write_cache=False)
    enough_images(len(dataset.train_indices), "real images", "")
    made = read_images(fakes, dataset, plugins, seed, say, most=num)
    enough_images(len(made.names), "fakes", "Give more, or ask for more with --num.")
    context = _data_context(dataset, plugins, device, seed, progress)
    about = {"fakes_from": fakes, **context.about}
    return replace(context, fakes=made.images, fake_names=made.names, about=about, **chosen)


def with_held_out(context: LeakContext, held_out: str, plugins: PluginManager, say: Say = print) -> LeakContext:
    """The context with other real images that were kept out of training.

    Raises:
        DataError: they cannot be read, or differ in size from the training images.
    """
    dataset = read_images(held_out, context.train, plugins, context.seed, say)
    key = hashlib.sha256(f"{context.data_key} {dataset.fingerprint}".encode()).hexdigest()
    return replace(context, held_out=dataset.images, data_key=key)


def run_detectors(context: LeakContext, detectors: Mapping[str, LeakDetector]) -> LeakReport:
    """Ask every detector.

    Raises:
        UsageError: none had anything to look for.
        PluginError: a detector gives something else than findings.
        AdaflowError: a detector lacks something.
    """
    findings: list[Finding] = []
    for place, (name, detector) in enumerate(detectors.items()):
        context.progress(name, place, len(detectors))
        found = detector.check(context)
        if fault := fault_of(found):
            raise PluginError(f"the leak detector {name!r} is wrong: {fault}", "adaflow plugins check says more.")
        findings += found
    if not findings:
        raise UsageError("there is nothing to look for", "Name transforms with --augs, or other --detectors.")
    held_out = 0 if context.held_out is None else len(context.held_out)
    facts = {
        "adaflow": __version__,
        **context.about,
        "fakes": len(context.fakes),
        "train_images": len(context.train),
        "held_out_images": held_out,
        "resolution": context.train.shape[-1],
        "augmentations": context.spec,
        "looked_for": sorted(context.transforms),
        "detectors": list(detectors),
        "seed": context.seed,
    }
    return LeakReport(tuple(findings), facts)


def leak_fakes(G: Generator, dataset: Dataset, num: int, seed: int, progress: Progress) -> Tensor:
    """Images uint8 [num, C, H, W] on the CPU, a function of the seed, with noise of their own."""

    def drawn(done: int, total: int) -> None:
        progress("drawing fakes", done, total)

    return torch.cat([part.cpu() for part in draw_fakes(G, dataset, seed, num, drawn, "leakcheck", own_noise=True)])


def read_images(
    source: str, like: Dataset | Tensor, plugins: PluginManager, seed: int, say: Say, most: int | None = None
) -> Dataset:
    """Images of a folder or zip that go with others, `most` of them, chosen by the seed, if there are more.

    Raises:
        DataError: they cannot be read, or differ from those in size or kind.
    """
    config = DataConfig(source, cache=False)
    with open_source(source, plugins.datasets) as files:
        if most is not None and len(files) > most:
            config = replace(config, subset=most)
    dataset = load_dataset(config, plugins.datasets, seed, say=say, write_cache=False)
    if dataset.left_out:
        say(f"{len(dataset.left_out)} images of {source} are left out; the first: {dataset.left_out[0][1]}.")
    shape = tuple((like.pixels if isinstance(like, Dataset) else like).shape[1:])
    if tuple(dataset.pixels.shape[1:]) != shape:
        has, wanted = (_describe(channels, size) for channels, size, _ in (dataset.pixels.shape[1:], shape))
        raise DataError(f"{source} has {has}, and the data have {wanted}", "Make them alike with adaflow data prepare.")
    return dataset


def enough_images(count: int, what: str, hint: str) -> None:
    """See that there are enough images to say anything.

    Raises:
        DataError: there are not.
    """
    if count < LEAST:
        raise DataError(f"{count} {what} are too few for a leak check, which needs {LEAST} at least", hint)


def _data_context(
    dataset: Dataset, plugins: PluginManager, device: torch.device, seed: int, progress: Progress
) -> LeakContext:
    """What is known of the data."""
    names = [dataset.names[place] for place in dataset.train_indices.tolist()]
    parts = [dataset.fingerprint, names, [dataset.names[place] for place in dataset.val_indices.tolist()]]
    train = dataset.take(dataset.train_indices)
    return LeakContext(
        fakes=train[:0],
        train=train,
        held_out=dataset.take(dataset.val_indices) if len(dataset.val_indices) else None,
        extractor=Extractors(plugins.features, device),
        device=device,
        mirrored=dataset.config.mirror,
        upside_down=dataset.config.mirrory,
        train_names=tuple(names),
        about={"data": dataset.name, "data_fingerprint": dataset.fingerprint},
        seed=seed,
        data_key=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        progress=progress,
    )


def _transforms(wanted: str, used: str, plugins: PluginManager) -> dict[str, Any]:
    """The fields of a context that say what to look for, and what training used."""
    looked_for: dict[str, Transform] = {
        active.name: active.transform
        for active in build_pipeline(wanted, plugins.augmentations).transforms
        if active.weight
    }
    try:
        trained = {active.name for active in build_pipeline(used, plugins.augmentations).transforms if active.weight}
    except AdaflowError:  # a plugin of the training that is not here
        trained = {item.name for item in parse_spec(used)}
    return {"transforms": looked_for, "used": frozenset(trained), "spec": used}


def _finite(value: Any) -> Any:
    """Plain values without the numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _describe(channels: int, size: int) -> str:
    return f"{'grey' if channels == 1 else 'colour'} images of {size} pixels"
