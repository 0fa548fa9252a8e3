"""A run, put together: configuration, folder, data, networks, augmentation, controller, state."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaflow.core.augment import AugmentPipeline, build_pipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.build import build_plugin
from adaflow.core.data.dataset import Dataset
from adaflow.core.distributed import World
from adaflow.core.features import Extractors
from adaflow.core.files import append_line
from adaflow.core.graphs import CudaRecorder, Graphs
from adaflow.core.logger import Logger
from adaflow.core.method import Method
from adaflow.core.metric import Metric
from adaflow.core.networks import Discriminator, Generator
from adaflow.core.p_controller import PController, has_weights
from adaflow.core.portions import Portion
from adaflow.core.precision import allow_tf32, set_precision
from adaflow.core.random import stream_key
from adaflow.core.run_config import OptimizerConfig, RunConfig, shard_count
from adaflow.core.snapshot import load_network
from adaflow.core.state import OBSERVED, Stateful, TrainState
from adaflow.core.statistics import Statistics
from adaflow.errors import ConfigError, PluginError
from adaflow.plugin_manager import PluginManager


class Run:
    """Everything a training run consists of. Hooks and loggers receive it.

    Args:
        config: the resolved configuration.
        folder: the run folder, which exists.
        world: this process among its peers.
        plugins: all plugins.
        dataset: the data, loaded.
        fresh: False for a run that goes on, whose weights come from its checkpoint and not from `init_from`.

    Raises:
        ConfigError, PluginError: parts that do not fit together, or unknown names.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        world: World,
        plugins: PluginManager,
        dataset: Dataset,
        fresh: bool = True,
    ) -> None:
        self.config = config
        self.folder = folder
        self.world = world
        self.plugins = plugins
        self.dataset = dataset
        self.print: Callable[[str], None] = print
        self.warned: set[str] = set()
        """Troubles the user has been told of."""
        self.stats: dict[str, Any] = {}
        """The statistics of the last tick."""

        self.augment: AugmentPipeline = build_pipeline(config.augment.augs, plugins.augmentations)
        self.controller: PController = build_plugin(config.augment.controller, plugins.p_controllers)
        self.methods: dict[str, Method] = {text: build_plugin(text, plugins.methods) for text in config.methods}
        for text, method in self.methods.items():
            if not isinstance(method, Method):
                raise PluginError(f"method {text!r} is a {type(method).__name__}", "Inherit from adaflow.Method.")
        self.metrics: dict[str, Metric] = {text: build_plugin(text, plugins.metrics) for text in config.metrics}
        for metric in self.metrics.values():
            metric.check(plugins.features, dataset)
        self.loggers: dict[str, Logger] = {text: build_plugin(text, plugins.loggers) for text in config.loggers}
        if self.controller.needs_validation and not len(dataset.val_indices):
            raise ConfigError(
                f"the p controller {config.augment.controller} compares with images kept out of training",
                "Set some apart with --val-fraction 0.1.",
            )
        if has_weights(self.controller):
            self.augment.weigh(self.controller.weights(self.augment.names, 1.0))  # an unknown name is found now
        self.watched = self.augment.names if self.controller.needs_transforms else ()
        """Transforms for each of which the controller wants to know what D says of reals for which it fired."""
        self.portions = self._new_portions()
        """This process's part of the present batch."""
        self.state = self._new_state(fresh)
        self.p = torch.zeros((), dtype=torch.float64, device=world.device)
        """`state.p` on the device, for the present step."""
        # The kernel for GPUs wants float32, that for CPUs takes any type; float64 changes nothing.
        precise = torch.float32 if world.device.type == "cuda" else torch.float64
        self.rates = {
            optimizer: torch.zeros((), dtype=precise, device=world.device)
            for optimizer in (self.state.G_opt, self.state.D_opt)
        }
        """The learning rates on the device, for the present step."""
        self.w_mean = torch.zeros(config.generator.w_dim, device=world.device)
        """Mean w of the present batch; zero between generator updates."""
        self.taken = torch.zeros((), dtype=torch.bool, device=world.device)
        """Whether the last update was taken: its gradients were finite."""
        self.graphs = self._new_graphs()
        """How the phases of a step are run."""
        self.trainable: dict[nn.Module, dict[nn.Parameter, None]] = {
            network: dict.fromkeys(p for p in network.parameters() if p.requires_grad)
            for network in (self.state.G, self.state.D)
        }
        self.all_trainable = [parameter for network in self.trainable.values() for parameter in network]
        self.extractor = Extractors(plugins.features, world.device)
        """`run.extractor(name)` gives the feature extractor of that name, "" the default one."""
        self._label_pool = dataset.labels[dataset.label_pool].to(world.device)
        self._key = lru_cache(maxsize=None)(lambda *names: stream_key(config.schedule.seed, *names))

    def _new_state(self, fresh: bool) -> TrainState:
        config, device = self.config, self.world.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.schedule.seed)
            G, D = Generator(config.generator), Discriminator(config.discriminator)
        G_ema = Generator(config.generator).requires_grad_(False).eval()
        G_ema.load_state_dict(G.state_dict())
        if config.init_from and fresh:
            start = load_network(config.init_from)
            for name, network, source in (("G", G, start.G), ("D", D, start.D), ("G_ema", G_ema, start.G_ema)):
                try:
                    network.load_state_dict(source.state_dict())
                except RuntimeError as error:
                    raise ConfigError(
                        f"{name} of {config.init_from} has another shape than this run's",
                        "Its resolution, channels, labels and layer sizes must be those of the new run.",
                    ) from error
        G, D, G_ema = G.to(device), D.to(device), G_ema.to(device)
        # The averaged generator stays in float32: what a run draws and measures is what `adaflow generate` will draw.
        for trained in (G, D):
            set_precision(trained, config.precision)
        allow_tf32(config.precision)
        loss, optimizer = config.loss, config.optimizer
        return TrainState(
            G=G,
            D=D,
            G_ema=G_ema,
            G_opt=adam(G, optimizer, optimizer.g_lr, loss.pl_interval, loss.pl_weight > 0),
            D_opt=adam(D, optimizer, optimizer.d_lr, loss.r1_interval, loss.r1_gamma > 0),
            statistics=Statistics(device),
            plugins=self._stateful_plugins(),
            pl_mean=torch.zeros((), device=device),
            observed=torch.zeros(OBSERVED + 2 * len(self.watched), dtype=torch.float64, device=device),
            p=min(max(self.controller.first_p(config.augment.p), 0.0), config.augment.p_max),
        )

    def _new_graphs(self) -> Graphs:
        """Phases are recorded on a GPU where nothing speaks against it."""
        if self.world.device.type != "cuda" or not self.config.graphs:
            return Graphs(None, self.say)
        if self.world.size > 1:
            return Graphs(None, self.say, "several processes speak to each other within phases")
        plugins = {active.name: active.transform for active in self.augment.transforms} | self.methods
        unfit = [name for name, plugin in plugins.items() if not is_capturable(plugin)]
        unfit += [self.config.augment.controller] * has_weights(self.controller)
        if unfit:
            return Graphs(None, self.say, f"what {', '.join(unfit)} does cannot be recorded")
        return Graphs(CudaRecorder(), self.say)

    def _new_portions(self) -> list[Portion]:
        world, count = self.world, shard_count(self.config, self.world.size)
        splits = ("train", "val") if self.controller.needs_validation else ("train",)
        size = self.config.schedule.batch // count
        return [
            Portion.empty(first, count, size, self.dataset, splits, world.device)
            for first in range(world.rank, count, world.size)
        ]

    def _stateful_plugins(self) -> dict[str, Stateful]:
        transforms = {f"augmentation {active.name}": active.transform for active in self.augment.transforms}
        methods = {f"method {name}": method for name, method in self.methods.items()}
        return {"p controller": self.controller, **transforms, **methods}

    @property
    def total_images(self) -> int:
        """Length of the run."""
        return round(self.config.schedule.kimg * 1000)

    def key(self, *names: str | int) -> int:
        """Key of a stream of random numbers of this run."""
        return self._key(*names)

    def random_labels(self, u: Tensor) -> Tensor:
        """Labels [N, c_dim] for u [N] in (0, 1), as often as D sees them: all classes equally often with `balance`."""
        pool = self._label_pool
        return pool[(u.double() * len(pool)).long().clamp_(max=len(pool) - 1)]

    def say(self, text: str) -> None:
        """Tell the user, on the screen and in `log.txt`. Silent in all but the first process."""
        if self.world.is_first:
            self.print(text)
            append_line(self.folder / "log.txt", text)


def is_capturable(plugin: Transform | Method) -> bool:
    """Whether its work can be recorded and repeated: it does not say otherwise, and has no state of its own."""
    return plugin.capturable and type(plugin).state_dict in (Transform.state_dict, Method.state_dict)


def adam(network: nn.Module, config: OptimizerConfig, lr: float, interval: int, regularised: bool) -> torch.optim.Adam:
    """Adam whose rate and betas make up for the extra steps of lazy regularisation (arXiv 1912.04958, §3.1).

    With a regulariser at every k-th step there are k + 1 updates where there were k: each is k/(k+1) of a step.
    It is the fused one, which can leave out a step without the host knowing (see `training_step.take_step`).
    """
    c = interval / (interval + 1) if regularised else 1.0
    betas = (config.beta1**c, config.beta2**c)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.Adam(parameters, lr=lr * c, betas=betas, eps=config.eps, fused=True)
