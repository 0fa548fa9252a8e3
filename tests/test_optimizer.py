"""The fused Adam does not check how weights lie in memory, so we do."""

import torch
from torch import nn

from adaflow.core.run import adam
from adaflow.core.run_config import OptimizerConfig


def layers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(6, 5, 3), nn.Conv2d(5, 7, 1), nn.Linear(4, 3))
    return network.to(memory_format=torch.channels_last)


def test_fused_steps_are_adams_steps_whatever_the_layout():
    ours, plain = layers(), layers()
    fused = adam(ours, OptimizerConfig(), lr=0.1, interval=16, regularised=True)
    group = fused.param_groups[0]
    reference = torch.optim.Adam(
        plain.parameters(), lr=group["lr"], betas=group["betas"], eps=group["eps"], fused=False, foreach=False
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            gradient = torch.randn(mine.shape, generator=generator)
            # As autograd leaves it: in the layout of the weights.
            mine.grad = torch.empty_like(mine).copy_(gradient)
            theirs.grad = gradient
        fused.step()
        reference.step()
    assert ours[0].weight.grad.stride() == ours[0].weight.stride() != gradient.stride()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
