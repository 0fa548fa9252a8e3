"""The networks of StyleGAN2: generator and discriminator."""

from adaflow.core.networks.config import DiscriminatorConfig, GeneratorConfig
from adaflow.core.networks.discriminator import Discriminator
from adaflow.core.networks.generator import Generator, Noise

__all__ = ["Discriminator", "DiscriminatorConfig", "Generator", "GeneratorConfig", "Noise"]
