"""One training step, from top to bottom: discriminator, R1, generator, path length, EMA, p.

Every random number is a function of (seed, what it is for, image counter): a step can be repeated anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adaflow.core import losses
from adaflow.core.distributed import average_gradients
from adaflow.core.draw import RandomDraws
from adaflow.core.method import Batch
from adaflow.core.p_controller import Observation, has_weights, next_p
from adaflow.core.portions import Portion
from adaflow.core.random import normal, uniform
from adaflow.core.state import OBSERVED
from adaflow.errors import DivergedError, PluginError

if TYPE_CHECKING:
    from adaflow.core.run import Run
    from adaflow.core.state import TrainState

MAX_BAD_UPDATES = 10
"""Updates in a row with non-finite gradients of one loss before the run counts as diverged."""

Loss = Callable[["Run", Portion], Tensor]


def training_step(run: Run) -> None:
    """Train on one batch and advance the state of the run."""
    state, loss = run.state, run.config.loss
    load_inputs(run)

    update(run, state.D, state.D_opt, discriminator_loss)
    if loss.r1_gamma > 0 and state.step % loss.r1_interval == 0:
        update(run, state.D, state.D_opt, r1_loss, gain=loss.r1_interval)

    update(run, state.G, state.G_opt, generator_loss)
    state.G.mapping.track(torch.where(run.taken, run.w_mean, state.G.mapping.w_avg))
    run.w_mean.zero_()
    if loss.pl_weight > 0 and state.step % loss.pl_interval == 0:
        update(run, state.G, state.G_opt, path_length_loss, gain=loss.pl_interval)

    state.step += 1
    state.images += run.config.schedule.batch
    average_weights(run)
    if state.step % run.config.augment.interval == 0:
        seen, bad = wait_for_numbers(run)
        adapt_p(run, seen)
        give_up_on_bad_updates(state, bad)


def load_inputs(run: Run) -> None:
    """Bring to the device what changes from step to step. Losses read it there, and nothing else that changes."""
    run.p.fill_(run.state.p)
    if has_weights(run.controller):
        run.augment.weigh(run.controller.weights(run.augment.names, run.state.p))
    for optimizer, rate in run.rates.items():
        rate.fill_(optimizer.param_groups[0]["lr"])
    for portion in run.portions:
        portion.load(run.dataset, run.state.images)


def update(run: Run, network: nn.Module, optimizer: torch.optim.Adam, loss: Loss, gain: float = 1.0) -> None:
    """One optimizer step of `network` on `gain` × the mean of `loss(run, portion)` over the batch.

    With non-finite gradients the step is left out, `run.taken` is false, and it is counted in `state.bad_updates`. The
    host does not wait for the device to know. On a GPU all of it is one CUDA graph, once it has run a few times.
    """
    run.graphs.run(loss.__name__, lambda: optimize(run, network, optimizer, loss, gain))


def optimize(run: Run, network: nn.Module, optimizer: torch.optim.Adam, loss: Loss, gain: float) -> None:
    """What `update` does. Its results are left in tensors that stay where they are."""
    trainable = run.trainable[network]
    for parameter in run.all_trainable:
        parameter.requires_grad_(parameter in trainable)
        parameter.grad = None
    for portion in run.portions:
        # Nothing but the weights needs a gradient, not even images that R1 differentiated with respect to.
        torch.autograd.backward(loss(run, portion).mean() * (gain / len(run.portions)), inputs=list(trainable))
    run.taken.copy_(average_gradients(run.world, list(trainable), also=[run.w_mean]))
    take_step(optimizer, run.rates[optimizer], skip=~run.taken)
    bad = run.state.bad_updates.setdefault(loss.__name__, torch.zeros_like(run.taken, dtype=torch.int64))
    bad.add_(1).mul_(~run.taken)


def take_step(optimizer: torch.optim.Adam, rate: Tensor, skip: Tensor) -> None:
    """A step of the fused optimizer, which reads on the device how large it is and whether to leave it out.

    Gradients are gone then, and their memory is free for the next phase.
    """
    (group,) = optimizer.param_groups
    settings = {name: group[name] for name in ("lr", "capturable")}
    group.update(lr=rate, capturable=rate.is_cuda and torch.cuda.is_current_stream_capturing())
    optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        group.update(settings)
    optimizer.zero_grad()


def discriminator_loss(run: Run, portion: Portion) -> Tensor:
    """D should tell fakes from reals, both augmented with the same p. [N]"""
    state, counters = run.state, portion.counters
    with torch.no_grad():
        ws, fake_labels = sample_ws(run, counters, "D")
        fakes = state.G.synthesis(ws, noise=noise_source(run, counters, "D"))
    reals, labels = shown_as_real(run, counters, Batch(*portion.reals()), Batch(fakes, fake_labels))
    fakes, reals = augment(run, fakes, counters, "D-fake"), augment(run, reals, counters, "D-real")
    # One pass for both, in which each keeps its own minibatch statistics.
    logits = state.D(torch.cat([fakes, reals]), torch.cat([fake_labels, labels]), parts=2)
    fake_logits, real_logits = logits.chunk(2)

    state.statistics.report("Loss/scores/real", real_logits)
    state.statistics.report("Loss/signs/real", real_logits.sign())
    count = real_logits.new_full((), len(counters))
    sums = [real_logits.sign().sum(), real_logits.sum(), fake_logits.sum(), count]
    if run.controller.needs_validation:
        with torch.no_grad():
            val_logits = discriminate(run, *portion.reals("val"), counters, "D-val")
        sums += [val_logits.sum(), count]
    state.observed[: len(sums)] += torch.stack(sums).detach().double()
    if run.watched:
        state.observed[OBSERVED:] += signs_where_fired(run, counters, real_logits)

    loss = losses.fake_looking(fake_logits) + losses.real_looking(real_logits)
    if run.methods:
        loss = loss + added_to_the_loss(run, fake_logits, real_logits)
    state.statistics.report("Loss/D/loss", loss)
    return loss


def shown_as_real(run: Run, counters: Tensor, reals: Batch, fakes: Batch) -> Batch:
    """What the methods of the run show D in the place of real images.

    Raises:
        PluginError: something else than such images and labels.
    """
    draws = RandomDraws(run.config.schedule.seed, "methods", counters)
    for name, method in run.methods.items():
        shown = method.reals(reals, fakes, run.p, draws.draw(name))
        if not isinstance(shown, tuple) or [getattr(part, "shape", None) for part in shown] != [r.shape for r in reals]:
            raise PluginError(
                f"method {name!r} does not show as many images and labels as it was given",
                "Its reals() returns a Batch of the same shapes.",
            )
        reals = shown
    return reals


def added_to_the_loss(run: Run, fake_logits: Tensor, real_logits: Tensor) -> Tensor | float:
    """What the methods of the run add to the loss of D, [N, 1] or a scalar.

    Raises:
        PluginError: something of another shape.
    """
    total: Tensor | float = 0.0
    for name, method in run.methods.items():
        term = method.discriminator_loss(fake_logits, real_logits)
        if term is None:
            continue
        if not isinstance(term, Tensor) or term.shape not in ((), real_logits.shape):
            raise PluginError(
                f"method {name!r} adds something to the loss that is not a number or one for each image",
                "Its discriminator_loss() returns a scalar tensor, or one of [N, 1], or None.",
            )
        total = total + term
    return total


@torch.no_grad()
def signs_where_fired(run: Run, counters: Tensor, real_logits: Tensor) -> Tensor:
    """For each watched transform the sum of signs where it fired on reals, then for each their count. [2 K]"""
    draws = RandomDraws(run.config.schedule.seed, "D-real", counters)
    fired = run.augment.fired(run.p, draws, run.dataset.channels)
    changed = torch.stack([fired[name] for name in run.watched]).double()
    return torch.cat([changed @ real_logits.sign().double().squeeze(1), changed.sum(1)])


def r1_loss(run: Run, portion: Portion) -> Tensor:
    """γ/2·|∇D|² with respect to reals before augmentation, so it runs back through the augmentation. [N]"""
    reals, labels = portion.reals()
    logits = discriminate(run, reals.requires_grad_(), labels, portion.counters, "R1")
    penalty = losses.r1_penalty(logits, reals)
    loss = penalty * (run.config.loss.r1_gamma / 2)
    run.state.statistics.report("Loss/r1_penalty", penalty)
    run.state.statistics.report("Loss/D/reg", loss)
    return loss


def generator_loss(run: Run, portion: Portion) -> Tensor:
    """G should make D take its augmented fakes for reals. [N]"""
    counters = portion.counters
    ws, labels = sample_ws(run, counters, "G")
    run.w_mean += ws[:, 0].detach().mean(0) / len(run.portions)
    fakes = run.state.G.synthesis(ws, noise=noise_source(run, counters, "G"))
    logits = discriminate(run, fakes, labels, counters, "G-fake")
    loss = losses.real_looking(logits)
    run.state.statistics.report("Loss/scores/fake", logits)
    run.state.statistics.report("Loss/signs/fake", logits.sign())
    run.state.statistics.report("Loss/G/loss", loss)
    return loss


def path_length_loss(run: Run, portion: Portion) -> Tensor:
    """A step in w should change the image by about the same amount everywhere. [N / pl_batch_shrink]"""
    config, state = run.config.loss, run.state
    counters = portion.counters[: max(len(portion.counters) // config.pl_batch_shrink, 1)]
    ws, _ = sample_ws(run, counters, "PL")
    images = state.G.synthesis(ws, noise=noise_source(run, counters, "PL"))
    unit_noise = normal(run.key("PL-image"), counters, images.shape[1:])
    lengths = losses.path_lengths(images, ws, unit_noise)
    decay = config.pl_decay / len(run.portions)  # the portions of a batch move it as far as a whole one
    penalty, mean = losses.path_length_penalty(lengths, state.pl_mean, decay, run.world.mean_with_gradient)
    state.pl_mean.copy_(torch.where(mean.isfinite(), mean, state.pl_mean).detach())
    loss = penalty * config.pl_weight
    state.statistics.report("Loss/pl_penalty", penalty)
    state.statistics.report("Loss/G/reg", loss)
    return loss


def sample_ws(run: Run, counters: Tensor, purpose: str) -> tuple[Tensor, Tensor]:
    """Styles [N, L, w_dim] of random latents and labels, two latents mixed at a random layer where mixing fires."""
    mapping, mixing = run.state.G.mapping, run.config.loss.style_mixing
    latent = run.key(purpose, "z")
    labels = run.random_labels(uniform(run.key(purpose, "label"), counters))
    shape = (run.config.generator.z_dim,)
    ws = mapping(normal(latent, counters, shape), labels)
    if mixing > 0:
        fires, where = uniform(run.key(purpose, "mixing"), counters, (2,)).unbind(1)
        layers = torch.arange(ws.shape[1], device=ws.device)
        first_mixed = torch.where(fires < mixing, 1 + (where * (len(layers) - 1)).floor(), len(layers))
        other = mapping(normal(latent, counters, shape, call=1), labels)
        ws = torch.where((layers >= first_mixed[:, None])[:, :, None], other, ws)
    return ws, labels


def noise_source(run: Run, counters: Tensor, purpose: str) -> Callable[[int, torch.Size], Tensor]:
    """Pixel noise for the synthesis network, a number of its own for each image, layer and pixel."""
    key = run.key(purpose, "noise")
    return lambda layer, shape: normal(key, counters, tuple(shape[1:]), call=layer)


def discriminate(run: Run, images: Tensor, labels: Tensor, counters: Tensor, purpose: str) -> Tensor:
    """Logits [N, 1] of augmented images."""
    return run.state.D(augment(run, images, counters, purpose), labels)  # type: ignore[no-any-return]


def augment(run: Run, images: Tensor, counters: Tensor, purpose: str) -> Tensor:
    """Augmented images [N, C, H, W], with draws of their own for each purpose."""
    return run.augment(images, run.p, RandomDraws(run.config.schedule.seed, purpose, counters))


@torch.no_grad()
def average_weights(run: Run) -> None:
    """Let G_ema follow G with a half-life of `ema_kimg`, shorter at the beginning."""
    state, schedule = run.state, run.config.schedule
    half_life = schedule.ema_kimg * 1000
    if schedule.ema_rampup is not None:
        half_life = min(half_life, state.images * schedule.ema_rampup)
    keep = 0.5 ** (schedule.batch / max(half_life, 1e-8))
    torch._foreach_lerp_(list(state.G_ema.parameters()), list(state.G.parameters()), 1 - keep)
    torch._foreach_copy_(list(state.G_ema.buffers()), list(state.G.buffers()))


def wait_for_numbers(run: Run) -> tuple[list[float], list[float]]:
    """`state.observed` over all processes, and the counts of bad updates: the one time that the host needs numbers."""
    observed = run.world.sum_(run.state.observed)
    numbers: list[float] = torch.cat([observed, torch.stack(list(run.state.bad_updates.values())).double()]).tolist()
    observed.zero_()
    return numbers[: len(observed)], numbers[len(observed) :]


def adapt_p(run: Run, observed: list[float]) -> None:
    """Tell the controller what D said since the last time, and take its p."""
    state, config = run.state, run.config
    sign, real, fake, count, val, val_count = observed[:OBSERVED]
    signs, counts = observed[OBSERVED:][: len(run.watched)], observed[OBSERVED:][len(run.watched) :]
    seen = Observation(
        p=state.p,
        images=state.images,
        images_since=config.schedule.batch * config.augment.interval,
        total_images=round(config.schedule.kimg * 1000),
        sign_real=sign / count,
        score_real=real / count,
        score_fake=fake / count,
        score_val=val / val_count if val_count else None,
        steps_since=config.augment.interval,
        p_max=config.augment.p_max,
        signs={name: s / n if n else None for name, s, n in zip(run.watched, signs, counts, strict=True)},
    )
    if seen.is_finite():
        for method in run.methods.values():
            method.observe(seen)
    state.p, state.saturated = next_p(run.controller, seen, config.augment.p_max)


def give_up_on_bad_updates(state: TrainState, counts: list[float]) -> None:
    """End a run that gets nowhere.

    Raises:
        DivergedError: gradients of one of the losses were not finite many times in a row.
    """
    for loss, count in zip(state.bad_updates, counts, strict=True):
        if count >= MAX_BAD_UPDATES:
            raise DivergedError(
                f"gradients of the {loss.replace('_', ' ')} were not finite {count:.0f} times in a row, "
                f"at {state.images / 1000:.1f} kimg",
                "Go back to an earlier snapshot with --init-from, and lower --lr or raise --gamma or --batch.",
            )
