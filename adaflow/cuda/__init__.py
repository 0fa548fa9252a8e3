"""Operations the networks and augmentations are built on; the reference path is pure torch."""

from adaflow.cuda.bias_act import ACTIVATIONS, bias_act
from adaflow.cuda.conv2d_resample import conv2d_resample
from adaflow.cuda.fir import setup_filter
from adaflow.cuda.modulated_conv2d import modulated_conv2d
from adaflow.cuda.upfirdn2d import downsample2d, filter2d, upfirdn2d, upsample2d

__all__ = [
    "ACTIVATIONS",
    "bias_act",
    "conv2d_resample",
    "downsample2d",
    "filter2d",
    "modulated_conv2d",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
]
