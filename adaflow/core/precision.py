"""Which layer computes in which number format. Weights, optimizers and files are float32 whatever is chosen here.

| | `fp32` | `tf32` | `bf16` |
|--|--|--|--|
| convolutions and activations at 16×16 and above | float32 | TF32 | bfloat16 |
| convolutions at 4×4 and 8×8, fully connected layers, styles | float32 | TF32 | TF32 |
| noise, biases, sum of to-RGB images, minibatch std, augmentation, losses | float32 | float32 | float32 |

TF32 is how GPUs from compute capability 8.0 multiply float32 matrices; elsewhere it is float32. bfloat16 has the range
of float32: nothing under- or overflows, so losses are not scaled and activations are not clamped (the customary clamp
at 256 is for float16). The kernels that join the steps of a layer compute in float32 and round once, when they store.
"""

from __future__ import annotations

import torch
from torch import nn

from adaflow.core.networks import GeneratorConfig
from adaflow.core.networks.config import resolutions
from adaflow.core.networks.discriminator import DiscriminatorBlock, DiscriminatorEpilogue
from adaflow.core.networks.generator import SynthesisBlock
from adaflow.errors import ConfigError

PRECISIONS = ("fp32", "tf32", "bf16")
AUTO = "auto"
LOWEST_BF16_RESOLUTION = 16
NARROWEST_BF16_ON_CPU = 16
"""With so many channels in its narrowest layer a step is 1.2 times as fast in bf16 on a CPU, with 8 no faster."""


def check_precision(name: str) -> None:
    """Refuse names that are neither a precision nor "auto".

    Raises:
        ConfigError: unknown.
    """
    if name not in (*PRECISIONS, AUTO):
        raise ConfigError(f"there is no precision {name!r}", f"Known: {', '.join((AUTO, *PRECISIONS))}.")


def choose_precision(name: str, on_gpu: bool, config: GeneratorConfig) -> str:
    """The precision that "auto" stands for on this machine; others stand for themselves.

    Args:
        name: one of `PRECISIONS`, or "auto".
        on_gpu: whether the run computes on the present GPU.
        config: of the generator; narrow networks gain nothing from bf16 on a CPU.
    """
    if name != AUTO:
        return name
    if on_gpu:
        recent = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
        return "bf16" if recent else "fp32"
    widths = [config.channels_at(resolution) for resolution in resolutions(config.img_resolution)]
    return "bf16" if multiplies_bf16() and min(widths) >= NARROWEST_BF16_ON_CPU else "fp32"


def multiplies_bf16() -> bool:
    """Whether this processor has instructions for bfloat16 products: AVX512-BF16 or AMX."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def set_precision(network: nn.Module, precision: str) -> None:
    """Let a generator or discriminator compute in a precision, `fp32`, `tf32` or `bf16`, from now on."""
    for block in network.modules():
        if isinstance(block, SynthesisBlock | DiscriminatorBlock | DiscriminatorEpilogue):
            reduced = precision == "bf16" and block.resolution >= LOWEST_BF16_RESOLUTION
            block.dtype = torch.bfloat16 if reduced else torch.float32


def allow_tf32(precision: str) -> None:
    """Let GPUs multiply float32 matrices as TF32 in this process, unless the precision is `fp32`."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
