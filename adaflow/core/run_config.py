"""The whole configuration of a run: one dataclass of dataclasses, each beside what it configures."""

from __future__ import annotations

from dataclasses import dataclass, field

from adaflow.core.data.dataset import DataConfig
from adaflow.core.losses import LossConfig
from adaflow.core.networks import DiscriminatorConfig, GeneratorConfig
from adaflow.core.precision import check_precision
from adaflow.errors import ConfigError


@dataclass(frozen=True)
class AugmentConfig:
    """What augments the images D sees, and how p is found.

    Args:
        augs: transforms, as in `--augs`.
        controller: p controller with its settings, as in `--p-controller`.
        p: augmentation probability at the start, in [0, 1].
        p_max: p never goes above this; beyond 0.8 augmentations begin to leak (arXiv 2006.06676 §2.2).
        interval: the controller is asked after every so many steps.
    """

    augs: str = "bgc"
    controller: str = "rt"
    p: float = 0.0
    p_max: float = 0.8
    interval: int = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.p <= self.p_max <= 1:
            raise ConfigError(
                f"augment.p ({self.p}) and augment.p_max ({self.p_max}) need 0 ≤ p ≤ p_max ≤ 1",
                "A p above 0.8 needs a higher --p-max.",
            )
        if self.interval < 1:
            raise ConfigError("augment.interval starts at 1")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam for both networks.

    Args:
        g_lr: learning rate of G.
        d_lr: learning rate of D.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of their squares.
        eps: added to the root.
    """

    g_lr: float = 0.0025
    d_lr: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check ranges."""
        if min(self.g_lr, self.d_lr, self.eps) <= 0:
            raise ConfigError("optimizer.g_lr, optimizer.d_lr and optimizer.eps must be positive")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ConfigError("optimizer.beta1 and optimizer.beta2 are in [0, 1)")


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, in what portions, and what is kept.

    Args:
        kimg: length of the run in thousands of images shown to D.
        batch: images per step, over all processes.
        batch_gpu: at most so many images per process at a time; gradients of the portions are added up. None: no limit.
        ema_kimg: half-life of the averaged generator in thousands of images.
        ema_rampup: at the start the half-life is this share of the images seen; None: no ramp-up.
        tick_kimg: a line of statistics after so many thousand images.
        snap: a network snapshot, samples and a checkpoint after so many ticks.
        keep: how many network snapshots to keep; 0 keeps all.
        keep_checkpoints: how many checkpoints to keep, at least 1.
        checkpoint_minutes: a checkpoint at the next tick when the last one is older than this.
        seed: of everything random.
    """

    kimg: float = 25000
    batch: int = 32
    batch_gpu: int | None = None
    ema_kimg: float = 10
    ema_rampup: float | None = None
    tick_kimg: float = 4
    snap: int = 50
    keep: int = 10
    keep_checkpoints: int = 2
    checkpoint_minutes: float = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.kimg <= 0 or self.tick_kimg <= 0 or self.ema_kimg < 0:
            raise ConfigError("schedule.kimg and schedule.tick_kimg must be positive, schedule.ema_kimg not negative")
        if self.batch < 1 or (self.batch_gpu is not None and self.batch_gpu < 1):
            raise ConfigError("schedule.batch and schedule.batch_gpu start at 1")
        if self.snap < 1 or self.keep < 0 or self.keep_checkpoints < 1:
            raise ConfigError("schedule.snap and schedule.keep_checkpoints start at 1, schedule.keep at 0")


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run. Written to `config.toml`; a resume reads it back.

    Args:
        data: the images.
        generator, discriminator: the networks.
        loss: weights and intervals.
        optimizer: Adam.
        augment: transforms and p.
        schedule: length, batch, snapshots.
        preset: the name of the preset the defaults came from.
        precision: what the networks compute in: "fp32", "tf32" or "bf16" (see `core/precision.py`). A new run has it
            chosen for the machine; a run without the setting began when there was float32 only.
        graphs: record the phases of a step as CUDA graphs, on GPUs (see `core/graphs.py`).
        methods: what else changes training, each with its settings, as in `--methods`.
        metrics: computed at every snapshot, each with its settings.
        loggers: where statistics go.
        init_from: network file whose weights the run starts from, or "".
        plugins: plugin files of the run.
        block: plugins left out of the run.
    """

    data: DataConfig
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    preset: str = "auto"
    precision: str = "fp32"
    graphs: bool = True
    methods: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    loggers: tuple[str, ...] = ("console", "jsonl", "tensorboard")
    init_from: str = ""
    plugins: tuple[str, ...] = ()
    block: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check names."""
        check_precision(self.precision)


def shard_count(config: RunConfig, processes: int) -> int:
    """Into how many equal portions a batch is cut: one for each process and accumulation round.

    Raises:
        ConfigError: the batch does not divide, or D's minibatch statistics do not.
    """
    batch, batch_gpu = config.schedule.batch, config.schedule.batch_gpu
    if batch % processes:
        reason = f"a batch of {batch} cannot be shared by {processes} processes"
        raise ConfigError(reason, "Choose a multiple with --batch.")
    local = batch // processes
    rounds = -(-local // (batch_gpu or local))
    if local % rounds:
        raise ConfigError(
            f"{local} images per process cannot be cut into equal portions of at most {batch_gpu}",
            "Choose a --batch-gpu that divides it.",
        )
    portion = local // rounds
    group = config.discriminator.mbstd_group_size or portion
    if portion % min(group, portion):
        raise ConfigError(
            f"{portion} images at a time are no multiple of the minibatch-std group of {group}",
            "Change --batch, --batch-gpu or --set discriminator.mbstd_group_size.",
        )
    return processes * rounds
