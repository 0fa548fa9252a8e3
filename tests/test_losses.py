"""Losses and their parameter gradients against golden numbers, and the regularisers' derivatives."""

import pytest
import torch

from adaflow.core import losses
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.errors import ConfigError
from tests.golden import Golden

LOSSES = Golden("losses")


@pytest.fixture(scope="module")
def networks():
    shape = {"img_resolution": 16, "channel_base": 512, "channel_max": 32}
    G = Generator(GeneratorConfig(z_dim=32, w_dim=32, mapping_layers=2, architecture="skip", **shape))
    D = Discriminator(DiscriminatorConfig(architecture="resnet", **shape))
    for network, file, tag in ((G, "generators", "G_res16_c0_skip"), (D, "discriminators", "D_res16_c0_resnet")):
        golden = Golden(file)
        network.load_state_dict({k.split("/sd/")[1]: golden[k] for k in golden.keys(f"{tag}/sd/")})
    return G, D


def close(actual, expected, tolerance=1e-5):
    scale = expected.abs().max().item() + 1e-12
    assert (actual - expected).abs().max().item() <= tolerance * scale


def check_gradients(network, loss, name):
    network.zero_grad()
    loss.backward()
    keys = LOSSES.keys(f"grad_{name}/")
    assert keys
    scale = max(LOSSES[key].abs().max().item() for key in keys)
    for key in keys:
        gradient = network.get_parameter(key.split("/")[1]).grad
        gradient = torch.zeros_like(LOSSES[key]) if gradient is None else gradient
        own = max(LOSSES[key].abs().max().item(), 1e-2 * scale)
        assert (gradient - LOSSES[key]).abs().max().item() <= 1e-5 * own, key


def test_generator_loss(networks):
    G, D = networks
    fakes = G(LOSSES["z"], None, noise="const")
    close(fakes, LOSSES["fake"])
    # D gets the golden pixels: ours differ by 4e-6, enough to tip one activation over the kink of the leaky ReLU.
    fakes = fakes + (LOSSES["fake"] - fakes).detach()
    loss = losses.real_looking(D(fakes, None))
    close(loss.flatten(), LOSSES["loss_Gmain_per_sample"].flatten())
    check_gradients(G, loss.mean(), "Gmain")


def test_discriminator_loss(networks):
    _, D = networks
    fake = losses.fake_looking(D(LOSSES["fake"], None))
    real = losses.real_looking(D(LOSSES["real"], None))
    close(fake.flatten(), LOSSES["loss_Dgen_per_sample"].flatten())
    close(real.flatten(), LOSSES["loss_Dreal_per_sample"].flatten())
    check_gradients(D, fake.mean() + real.mean(), "Dmain")


def test_r1(networks):
    _, D = networks
    images = LOSSES["real"].clone().requires_grad_()
    penalty = losses.r1_penalty(D(images, None), images)
    close(penalty, LOSSES["r1_penalty"])
    loss = penalty * 5
    close(loss, LOSSES["loss_Dr1_per_sample"].flatten())
    check_gradients(D, loss.mean() * 16, "Dr1_x16")


def test_path_length(networks):
    G, _ = networks
    ws = G.mapping(LOSSES["z"][:4], None)
    close(ws, LOSSES["pl_ws"])
    lengths = losses.path_lengths(G.synthesis(ws, noise="const"), ws, LOSSES["pl_unit_noise"])
    close(lengths, LOSSES["pl_lengths"])
    penalty, mean = losses.path_length_penalty(lengths, torch.as_tensor(LOSSES["pl_mean_before"]), 0.01)
    close(mean, LOSSES["pl_mean_after"])
    close(penalty, LOSSES["pl_penalty"].flatten())
    check_gradients(G, (penalty * 2).mean() * 4, "Gpl_x4")


@pytest.mark.parametrize(
    "bad", [{"r1_gamma": -1.0}, {"r1_interval": 0}, {"style_mixing": 1.5}, {"pl_decay": 0.0}, {"pl_batch_shrink": 0}]
)
def test_ranges(bad):
    with pytest.raises(ConfigError):
        losses.LossConfig(**bad)
