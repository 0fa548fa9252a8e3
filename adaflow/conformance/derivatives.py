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

Function = Callable[[Subject, Tensor], Tensor]

PRECISIONS = ((torch.float64, 1e-5, 1e-3), (torch.float32, 1e-2, 0.1))
"""Number formats in which derivatives are compared with differences: step, and how far both may be apart, relatively.
Not every transform computes in float64."""

DIRECTIONS = 4


def gradient(subject: Subject) -> str:
    """The gradient with respect to the images is that of finite differences, and finite for flat images, too."""
    _finite(subject, _projected, "gradient")
    images = noise(3).requires_grad_()
    (slope,) = grad(_projected(subject, images), images)
    require(bool(slope.any()), "the gradient is zero everywhere")
    return _compare_with_differences(subject, _projected, "gradient")


def gradient_of_gradient(subject: Subject) -> str:
    """The gradient of the squared norm of that gradient, as in R1, is that of finite differences, and finite, too."""
    try:
        _finite(subject, _penalty, "gradient of the gradient")
        return _compare_with_differences(subject, _penalty, "gradient of the gradient")
    except RuntimeError as error:
        raise CheckError(f"the gradient cannot be differentiated: {error}") from error


def gradient_of_gradient_on_torch_2_11(subject: Subject) -> None:
    """Neither derivative needs one of torch's own `grid_sample`, whose second derivative torch before 2.12 lacks."""
    for path in (nullcontext, reference_ops):
        images = noise(3).requires_grad_()
        with path():
            result = _curved(subject, images)
        (slope,) = grad(result.square().sum(), images, create_graph=True)
        found = any("GridSampler" in name for name in graph_nodes(result) | graph_nodes(slope))
        require(not found, "it calls torch's grid_sample: take that of adaflow.cuda.grid_sample")


def _curved(subject: Subject, images: Tensor) -> Tensor:
    """Augmentation and a curve after it, so that the second derivative of a linear map is not zero.

    Every call has a pipeline of its own, for one may remember what it did.
    """
    return augmented(build(subject), images).sin()


def _projected(subject: Subject, images: Tensor) -> Tensor:
    """A weighted sum of that."""
    weights = noise(2 * len(images))[len(images) :]
    return (_curved(subject, images).double() * weights).sum()


def _penalty(subject: Subject, images: Tensor) -> Tensor:
    """The squared norm of the gradient of the sum."""
    (slope,) = grad(_projected(subject, images), images, create_graph=True)
    return slope.double().square().sum()


def _finite(subject: Subject, function: Function, what: str) -> None:
    """See that the gradient of a function is finite for noise, and for black, grey and white images."""
    for images in (noise(3), flat()):
        images.requires_grad_()
        (slope,) = grad(function(subject, images), images)
        require(bool(slope.isfinite().all()), f"the {what} is not finite")


def _compare_with_differences(subject: Subject, function: Function, what: str) -> str:
    """See that the gradient of a function is that of differences, in one of the precisions. A remark says which."""
    apart = ""
    for dtype, step, tolerance in PRECISIONS:
        try:
            apart = _apart(subject, function, dtype, step, tolerance)
        except Exception:  # of any sort: it need not compute in float64
            if dtype == torch.float32:
                raise
            continue
        if not apart:
            return "in float32" if dtype == torch.float32 else ""
    raise CheckError(f"the {what} {apart}")


def _apart(subject: Subject, function: Function, dtype: torch.dtype, step: float, tolerance: float) -> str:
    """Along which direction the gradient and differences disagree; "" where they agree along all."""
    images = noise(3, dtype=dtype).requires_grad_()
    (slope,) = grad(function(subject, images), images)
    generator = torch.Generator().manual_seed(1)
    for _ in range(DIRECTIONS):
        direction = torch.randn(images.shape, generator=generator, dtype=dtype)
        ahead, behind = (
            function(subject, (images + way * direction).detach().requires_grad_()).detach() for way in (step, -step)
        )
        expected, found = float(ahead - behind) / (2 * step), float((slope * direction).sum())
        if not abs(expected - found) <= tolerance * max(float(slope.norm()), abs(expected)):
            return f"along some direction is {found:.4g}, and finite differences give {expected:.4g}"
    return ""


def graph_nodes(tensor: Tensor) -> set[str]:
    """The names of all nodes of the graph of derivatives that a tensor came from."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}
