"""Checks of training methods."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from adaflow.conformance.check import (
    Subject,
    advanced_generators,
    generator_states,
    require,
    through_a_file,
)
from adaflow.core.draw import RandomDraws
from adaflow.core.method import Batch, Method
from adaflow.core.p_controller import Observation

N = 16


def constructs(subject: Subject) -> None:
    """It can be made from its name, with its default settings or those given, and is a `Method`."""
    made = subject.make()
    require(isinstance(made, Method), f"it is a {type(made).__name__}, not an adaflow.Method")


def shown_as_real(subject: Subject) -> None:
    """What it shows D as real are as many images and labels as there are, of the same shape and type, and finite."""
    reals = _batch(0)
    for p in (0.0, 0.5, 1.0):
        shown = _shown(_make(subject), p)
        require(isinstance(shown, tuple) and len(shown) == 2, "reals() does not give images and labels")
        for name, now, before in zip(("images", "labels"), shown, reals, strict=True):
            wanted = f"{before.dtype} {list(before.shape)}"
            require(
                now.shape == before.shape and now.dtype == before.dtype,
                f"with p = {p} its {name} are {now.dtype} {list(now.shape)}, not {wanted}",
            )
            require(bool(now.isfinite().all()), f"with p = {p} its {name} are not finite")


def loss_term(subject: Subject) -> None:
    """What it adds to the loss of D is nothing, a number, or one for each image; finite, as are its gradients."""
    method = _make(subject)
    for seen in (None, _observation(0), _observation(1)):
        if seen is not None:
            method.observe(seen)
        fake, real = (logits.requires_grad_() for logits in _logits())
        term = method.discriminator_loss(fake, real)
        if term is None:
            continue
        require(tuple(term.shape) in ((), (N, 1)), f"its term is {list(term.shape)}, not a number or [N, 1]")
        require(bool(term.isfinite().all()), "its term is not finite")
        if term.requires_grad:
            gradients = torch.autograd.grad(term.mean(), (fake, real), allow_unused=True)
            finite = all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)
            require(finite, "the gradients of its term are not finite")


def input_untouched(subject: Subject) -> None:
    """The images, labels and logits it is given are not changed."""
    reals, fakes, logits = _batch(0), _batch(1), _logits()
    before = [tensor.clone() for tensor in (*reals, *fakes, *logits)]
    method = _make(subject)
    method.reals(reals, fakes, _p(0.5), _draws().draw("method"))
    method.discriminator_loss(*logits)
    same = all(torch.equal(a, b) for a, b in zip(before, (*reals, *fakes, *logits), strict=True))
    require(same, "it changes what it is given")


def randomness_from_the_draw(subject: Subject) -> None:
    """Its numbers come from its draw: the same draw shows the same, and the global generators are not used."""
    before = generator_states()
    first, second = (_shown(_make(subject), 0.5) for _ in range(2))
    _make(subject).discriminator_loss(*_logits())
    used = advanced_generators(before)
    require(not used, f"it uses the global generator of {', '.join(used)}")
    require(torch.equal(first[0], second[0]), "the same draw shows D other images")


def state_round_trip(subject: Subject) -> None:
    """What `state_dict` gives survives a checkpoint, and a method that takes it back goes on like the first one."""
    first, second = _make(subject), _make(subject)
    _live(first, range(3))
    second.load_state_dict(through_a_file(first.state_dict()))
    goes_on, resumed = _live(first, range(3, 6)), _live(second, range(3, 6))
    same = all(torch.equal(a, b) for a, b in zip(goes_on, resumed, strict=True))
    require(same, "after a resume it does something else: state_dict() does not hold all it remembers")


def _make(subject: Subject) -> Method:
    return cast(Method, subject.make())


def _live(method: Method, steps: range) -> list[Tensor]:
    """What comes of some steps."""
    results = []
    for step in steps:
        results.append(_shown(method, 0.5, step)[0])
        term = method.discriminator_loss(*_logits())
        results.append(torch.zeros(()) if term is None else term)
        method.observe(_observation(step))
    return results


def _shown(method: Method, p: float, step: int = 0) -> Batch:
    return method.reals(_batch(0), _batch(1), _p(p), _draws(step).draw("method"))


def _p(p: float) -> Tensor:
    return torch.tensor(p, dtype=torch.float64)


def _draws(step: int = 0) -> RandomDraws:
    return RandomDraws(0, "conformance", torch.arange(N * step, N * step + N))


def _batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(N, 3, 16, 16, generator=generator) * 2 - 1
    return Batch(images, torch.eye(2)[torch.randint(2, (N,), generator=generator)])


def _logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(N, 1, generator=generator) - 1, torch.randn(N, 1, generator=generator) + 1


def _observation(step: int) -> Observation:
    return Observation(
        p=0.5,
        images=(step + 1) * N,
        images_since=N,
        total_images=100 * N,
        sign_real=0.6,
        score_real=1.0 + 0.1 * step,
        score_fake=-1.0,
    )
