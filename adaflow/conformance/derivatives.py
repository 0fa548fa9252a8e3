"""Checks of augmentations: their first and second derivatives, which the generator and R1 learn through."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.autograd import grad

from adaflow.conformance.check import CheckError, Subject, require
from adaflow.conformance.pipelines import augmented, build, flat, noise
from adaflow.cuda.library import reference_ops

STEP = 1e-2
DIRECTIONS = 4
TOLERANCE = 0.1


def gradient(subject: Subject) -> str:
    """The gradient with respect to the images is that of finite differences, and finite for flat images, too."""
    for images in (flat(), noise(3)):
        images.requires_grad_()
        (slope,) = grad(_projected(subject, images), images)
        require(bool(slope.isfinite().all()), "the gradient is not finite")
    require(bool(slope.any()), "the gradient is zero everywhere")
    if _holds_in_float64(torch.autograd.gradcheck, subject):
        return ""
    _compare_with_differences(lambda x: _projected(subject, x))
    return "in float32"


def gradient_of_gradient(subject: Subject) -> str:
    """So is the gradient of the squared norm of the gradient, as in R1."""
    try:
        for images in (noise(3), flat()):
            images.requires_grad_()
            (slope,) = grad(_penalty(subject, images), images)
            require(bool(slope.isfinite().all()), "the gradient of the gradient is not finite")
        if _holds_in_float64(torch.autograd.gradgradcheck, subject):
            return ""
        _compare_with_differences(lambda x: _penalty(subject, x))
    except RuntimeError as error:
        raise CheckError(f"the gradient cannot be differentiated: {error}") from error
    return "in float32"


def gradient_of_gradient_on_torch_2_11(subject: Subject) -> None:
    """Neither derivative needs one of torch's own `grid_sample`, whose second derivative torch before 2.12 lacks."""
    for path in (nullcontext, reference_ops):
        images = noise(3).requires_grad_()
        with path():
            result = _curved(subject)(images)
        (slope,) = grad(result.square().sum(), images, create_graph=True)
        found = any("GridSampler" in name for name in _nodes(result) | _nodes(slope))
        require(not found, "it calls torch's grid_sample: take that of adaflow.cuda.grid_sample")


def _curved(subject: Subject) -> Callable[[Tensor], Tensor]:
    """Augmentation and a curve after it, so that the second derivative of a linear map is not zero.

    Every call has a pipeline of its own, for one may remember what it did.
    """

    def function(images: Tensor) -> Tensor:
        result = augmented(build(subject), images)
        require(result.requires_grad, "no gradient goes through it: it detaches the images, or leaves torch")
        return result.sin()

    return function


def _holds_in_float64(check: Callable[..., bool], subject: Subject) -> bool:
    """Whether torch's own check agrees; not every transform computes in float64."""
    images = noise(3, dtype=torch.float64).requires_grad_()
    try:
        return check(_curved(subject), images, fast_mode=True, raise_exception=False)
    except Exception:
        return False


def _projected(subject: Subject, images: Tensor) -> Tensor:
    """A weighted sum of the augmented images, after a curve."""
    weights = noise(2 * len(images))[len(images) :]
    return (_curved(subject)(images).double() * weights).sum()


def _penalty(subject: Subject, images: Tensor) -> Tensor:
    """The squared norm of the gradient of that sum."""
    (slope,) = grad(_projected(subject, images), images, create_graph=True)
    return slope.double().square().sum()


def _compare_with_differences(function: Callable[[Tensor], Tensor]) -> None:
    """See that the gradient of a function of float32 images, along some directions, is that of differences."""
    images = noise(3).requires_grad_()
    (slope,) = grad(function(images), images)
    generator = torch.Generator().manual_seed(1)
    for _ in range(DIRECTIONS):
        direction = torch.randn(images.shape, generator=generator)
        ahead, behind = (function((images + step * direction).detach().requires_grad_()) for step in (STEP, -STEP))
        expected, found = float(ahead - behind) / (2 * STEP), float((slope * direction).sum())
        scale = max(float(slope.norm()), abs(expected))
        close = abs(expected - found) <= TOLERANCE * scale
        require(close, f"along some direction it is {found:.4g}, and finite differences give {expected:.4g}")


def _nodes(tensor: Tensor) -> set[str]:
    """The names of all nodes of the graph of derivatives that a tensor came from."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}
