"""Generator and discriminator against golden state dicts, images, logits and gradients."""

import pytest
import torch

from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.networks.layers import ConvLayer, SynthesisLayer
from adaflow.errors import ConfigError
from tests.golden import Golden

generators = Golden("generators")
discriminators = Golden("discriminators")
G_CASES = {case["tag"]: case for case in generators.cases}
D_CASES = {case["tag"]: case for case in discriminators.cases}
TOLERANCE = 2e-5

SMALL = {"img_resolution": 16, "channel_base": 128, "channel_max": 8}
SMALL_G = {**SMALL, "z_dim": 6, "w_dim": 5, "mapping_layers": 2}
ARCHITECTURES = ["orig", "skip", "resnet"]


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    assert value.shape == expected.shape
    return float((value - expected).detach().abs().max() / expected.abs().max())


def load(network: torch.nn.Module, golden: Golden, tag: str, param_names: list[str]):
    prefix = f"{tag}/sd/"
    network.load_state_dict({key.removeprefix(prefix): golden[key] for key in golden.keys(prefix)}, strict=True)
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trainable == set(param_names)
    return network


def label(golden: Golden, tag: str) -> torch.Tensor | None:
    key = f"{tag}/c"
    if key in golden:
        return golden[key]
    return None


def golden_generator(tag: str) -> Generator:
    case = G_CASES[tag]
    kwargs = dict(case["init_kwargs"])
    mapping, synthesis = dict(kwargs.pop("mapping_kwargs")), dict(kwargs.pop("synthesis_kwargs"))
    del synthesis["num_fp16_res"]
    if "resample_filter" in synthesis:
        synthesis["resample_filter"] = tuple(synthesis["resample_filter"])
    config = GeneratorConfig(mapping_layers=mapping.pop("num_layers"), **kwargs, **mapping, **synthesis)
    return load(Generator(config), generators, tag, case["param_names"])


def golden_discriminator(tag: str) -> Discriminator:
    case = D_CASES[tag]
    kwargs = dict(case["init_kwargs"])
    del kwargs["num_fp16_res"]
    if "mapping_kwargs" in kwargs:
        kwargs["mapping_layers"] = kwargs.pop("mapping_kwargs")["num_layers"]
    config = DiscriminatorConfig(**kwargs.pop("epilogue_kwargs", {}), **kwargs.pop("block_kwargs", {}), **kwargs)
    return load(Discriminator(config), discriminators, tag, case["param_names"])


@pytest.mark.parametrize("tag", G_CASES)
def test_golden_generator(tag):
    G = golden_generator(tag)
    z = generators[f"{tag}/z"]
    c = label(generators, tag)
    assert G.mapping.num_ws == G_CASES[tag]["num_ws"]
    with torch.no_grad():
        results = {
            "ws": G.mapping(z, c),
            "ws_psi07": G.mapping(z, c, psi=0.7),
            "img_const": G(z, c, noise="const"),
            "img_none": G(z, c, noise="none"),
            "img_const_psi07": G(z, c, psi=0.7, noise="const"),
            "img_const_psi05_cutoff2": G(z, c, psi=0.5, cutoff=2, noise="const"),
            "img_const_ws_layered": G.synthesis(generators[f"{tag}/ws_layered"], noise="const"),
        }
    errors = {name: relative_error(result, generators[f"{tag}/{name}"]) for name, result in results.items()}
    assert max(errors.values()) < TOLERANCE, errors


def image_gradient(D: Discriminator, img: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
    img = img.clone().requires_grad_()
    return torch.autograd.grad(D(img, c).sum(), img)[0]


@pytest.mark.parametrize("tag", D_CASES)
def test_golden_discriminator(tag):
    D = golden_discriminator(tag)
    img, c = discriminators[f"{tag}/img"], label(discriminators, tag)
    results = {"logits": D(img, c), "logits_first4": D(img[:4], None if c is None else c[:4])}
    errors = {name: relative_error(result, discriminators[f"{tag}/{name}"]) for name, result in results.items()}
    assert max(errors.values()) < TOLERANCE, errors

    gradient, expected = image_gradient(D, img, c), discriminators[f"{tag}/r1_grad"]
    wrong = [n for n in range(len(img)) if relative_error(gradient[n], expected[n]) >= TOLERANCE]
    if wrong:
        # An activation 3e-7 from the kink of the leaky ReLU: rounding takes it, and the gradient, to either side.
        exact = image_gradient(D.double(), img.double(), None if c is None else c.double())
        assert len(wrong) == 1
        assert relative_error(gradient[wrong].double(), exact[wrong]) < TOLERANCE
    right = [n for n in range(len(img)) if n not in wrong]
    penalty = gradient.square().sum(dim=[1, 2, 3])
    assert relative_error(penalty[right], discriminators[f"{tag}/r1_penalty"][right]) < TOLERANCE


def test_moving_average_of_w():
    torch.manual_seed(0)
    G = Generator(GeneratorConfig(**SMALL_G, w_avg_beta=0.9))
    z = torch.randn(64, 6)
    mean = G.mapping(z)[:, 0].mean(dim=0).detach()
    assert not G.mapping.w_avg.any()
    G.mapping.track(mean)
    torch.testing.assert_close(G.mapping.w_avg, 0.1 * mean)
    G.mapping.track(mean)
    torch.testing.assert_close(G.mapping.w_avg, 0.19 * mean)
    assert not G.mapping.w_avg.requires_grad
    torch.testing.assert_close(G.mapping(z, psi=0.0), G.mapping.w_avg.expand(64, 6, 5))


def with_noise(G: Generator) -> Generator:
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
    return G


def test_noise_is_asked_for_layer_by_layer():
    torch.manual_seed(0)
    G = with_noise(Generator(GeneratorConfig(**SMALL_G)))
    ws = G.mapping(torch.randn(2, 6))
    constants = [buffer for name, buffer in G.named_buffers() if name.endswith("noise_const")]
    asked = []

    def source(layer, shape):
        asked.append((layer, shape))
        return constants[layer].expand(shape)

    images = G.synthesis(ws, noise=source)
    assert asked == [(layer, (2, 1, size, size)) for layer, size in enumerate([4, 8, 8, 16, 16])]
    torch.testing.assert_close(images, G.synthesis(ws, noise="const"))


def test_random_noise_is_fresh_and_its_own_for_every_image():
    torch.manual_seed(0)
    G = with_noise(Generator(GeneratorConfig(**SMALL_G)))
    z = torch.randn(1, 6).expand(2, 6)
    first, second = G(z), G(z)
    assert (first - second).abs().max() > 0.1
    assert (first[0] - first[1]).abs().max() > 0.1
    quiet = G(z, noise="none")
    torch.testing.assert_close(quiet[0], quiet[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_every_parameter_is_trained(channels, architecture):
    torch.manual_seed(0)
    common = {"c_dim": 3, "img_channels": channels, "architecture": architecture, "conv_clamp": 256.0}
    G = Generator(GeneratorConfig(**SMALL_G, **common))
    D = Discriminator(DiscriminatorConfig(**SMALL, **common, mapping_layers=2))
    z, c = torch.randn(4, 6), torch.randn(4, 3)
    images = G(z, c)
    assert images.shape == (4, channels, 16, 16)
    logits = D(images, c)
    assert logits.shape == (4, 1)
    torch.nn.functional.softplus(-logits).mean().backward()
    for network in (G, D):
        idle = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
        assert idle == []


def test_fresh_networks_keep_the_variance():
    torch.manual_seed(0)
    G = Generator(GeneratorConfig(z_dim=128, w_dim=128, img_resolution=16, channel_base=512, channel_max=32))
    assert abs(float(G.mapping.fc3.weight.detach().std()) - 100) < 2
    assert not G.synthesis.b8.conv0.noise_strength.any()
    assert bool((G.synthesis.b8.conv0.affine.bias == 1).all())
    z = torch.randn(256, 128)
    assert 0.5 < float(G.mapping(z).detach().std()) < 2
    assert 0.5 < float(G(z).detach().std()) < 2
    D = Discriminator(DiscriminatorConfig(img_resolution=16, channel_base=512, channel_max=32))
    assert abs(float(D.b8.conv0.weight.detach().std()) - 1) < 0.05
    assert 0.5 < float(D.b8.conv0(torch.randn(64, 32, 8, 8)).detach().square().mean()) < 2


def test_labels_matter():
    torch.manual_seed(0)
    G = Generator(GeneratorConfig(**SMALL_G, c_dim=2))
    D = Discriminator(DiscriminatorConfig(**SMALL, c_dim=2, mapping_layers=1))
    one, other = torch.eye(2)[:1], torch.eye(2)[1:]
    z, img = torch.randn(1, 6), torch.randn(1, 3, 16, 16)
    assert (G(z, one, noise="none") - G(z, other, noise="none")).abs().max() > 0.01
    assert (D(img, one) - D(img, other)).abs().max() > 0.01


def output_of(layer: torch.nn.Module, run) -> torch.Tensor:
    outputs = []
    with layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach())):
        run()
    return outputs[0]


def test_conditional_logits_are_a_scaled_projection_on_the_mapped_label():
    torch.manual_seed(0)
    D = Discriminator(DiscriminatorConfig(**SMALL, c_dim=2, cmap_dim=9, mapping_layers=2))
    img, c = torch.randn(4, 3, 16, 16), torch.randn(4, 2)
    features = output_of(D.b4.out, lambda: D(img, c))
    assert features.shape == (4, 9)
    torch.testing.assert_close(D(img, c), (features * D.mapping(None, c)).sum(dim=1, keepdim=True) / 3)


def test_clamp_follows_the_gain_of_the_layer():
    torch.manual_seed(0)
    conv = ConvLayer(3, 8, 3, activation="lrelu", conv_clamp=0.1)
    synthesis = SynthesisLayer(3, 8, w_dim=5, resolution=8, conv_clamp=0.1)
    x, w = torch.randn(2, 3, 8, 8), torch.randn(2, 5)
    for gain in (1.0, 0.5):
        assert float(conv(x, gain=gain).detach().max()) == pytest.approx(0.1 * gain)
        assert float(synthesis(x, w, None, gain=gain).detach().max()) == pytest.approx(0.1 * gain)


def unfrozen(**kwargs) -> list[str]:
    D = Discriminator(DiscriminatorConfig(**SMALL, **kwargs))
    return [name for name, parameter in D.named_parameters() if parameter.requires_grad]


def test_freezing_goes_layer_by_layer_from_the_highest_resolution():
    everything = unfrozen(architecture="skip")
    assert unfrozen(architecture="skip", freeze_layers=4) == [
        name for name in everything if not name.startswith(("b16.", "b8.fromrgb"))
    ]
    assert unfrozen(freeze_layers=4) == [name for name in unfrozen() if not name.startswith("b16.")]
    assert unfrozen(freeze_layers=7) == [name for name in unfrozen() if name.startswith("b4.")]
    with pytest.raises(ConfigError, match="only 7 can be"):
        unfrozen(freeze_layers=8)


def directional_derivative(value, parameters: list[torch.Tensor], directions: list[torch.Tensor]) -> float:
    """Central difference of `value()` along `directions`."""
    step = 1e-6
    results = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * step * direction
        results.append(float(value().detach()))
    with torch.no_grad():
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter += step * direction
    return (results[0] - results[1]) / (2 * step)


def check_parameter_gradients(value, network: torch.nn.Module):
    parameters = [parameter for _, parameter in network.named_parameters()]
    directions = [torch.randn_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
    pairs = zip(gradients, directions, strict=True)
    slope = float(sum((gradient * direction).sum() for gradient, direction in pairs if gradient is not None))
    assert slope == pytest.approx(directional_derivative(value, parameters, directions), rel=1e-4)
    assert abs(slope) > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_of_the_r1_penalty(architecture):
    torch.manual_seed(0)
    D = Discriminator(DiscriminatorConfig(**SMALL, architecture=architecture)).double()
    img = torch.randn(4, 3, 16, 16, dtype=torch.float64, requires_grad=True)

    def penalty():
        return torch.autograd.grad(D(img).sum(), img, create_graph=True)[0].square().sum()

    check_parameter_gradients(penalty, D)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_of_the_path_length(architecture):
    torch.manual_seed(0)
    synthesis = Generator(GeneratorConfig(**SMALL_G, architecture=architecture)).double().synthesis
    ws = torch.randn(2, synthesis.num_ws, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 3, 16, 16, dtype=torch.float64)

    def length():
        images = synthesis(ws, noise="const")
        return torch.autograd.grad((images * noise).sum(), ws, create_graph=True)[0].square().sum()

    check_parameter_gradients(length, synthesis)


@pytest.mark.parametrize("group", [None, 2, 4, 16])
def test_parts_of_a_batch_do_not_see_each_other(group):
    torch.manual_seed(0)
    D = Discriminator(DiscriminatorConfig(**SMALL, c_dim=2, mapping_layers=1, mbstd_group_size=group))
    img, c = torch.randn(16, 3, 16, 16), torch.randn(16, 2)
    apart = torch.cat([D(img[:8], c[:8]), D(img[8:], c[8:])])
    torch.testing.assert_close(D(img, c, parts=2), apart, rtol=1e-5, atol=1e-6)
    assert (D(img, c) - apart).abs().max() > 1e-4


def test_filters_stay_channels_last():
    G, D = Generator(GeneratorConfig(**SMALL_G)), Discriminator(DiscriminatorConfig(**SMALL))
    for network in (G, D):
        network.load_state_dict({name: value.contiguous() for name, value in network.state_dict().items()})
        network.to(torch.float64)
        filters = [parameter for parameter in network.parameters() if parameter.ndim == 4]
        assert filters
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in filters)


def test_minibatch_standard_deviation_needs_whole_groups():
    D = Discriminator(DiscriminatorConfig(**SMALL))
    assert D(torch.randn(3, 3, 16, 16)).shape == (3, 1)
    with pytest.raises(ConfigError, match="6 images does not divide into groups of 4"):
        D(torch.randn(6, 3, 16, 16))


@pytest.mark.parametrize("c", [None, torch.ones(2, 4), torch.ones(3)])
def test_missing_or_misshapen_labels(c):
    G = Generator(GeneratorConfig(**SMALL_G, c_dim=3))
    with pytest.raises(ConfigError, match="conditional on 3 values"):
        G(torch.randn(2, 6), c)


@pytest.mark.parametrize("config", [GeneratorConfig, DiscriminatorConfig])
@pytest.mark.parametrize(
    "wrong",
    [
        {"img_resolution": 4},
        {"img_resolution": 48},
        {"img_channels": 0},
        {"img_channels": 5},
        {"c_dim": -1},
        {"mapping_layers": 0},
        {"channel_base": 32},
        {"channel_max": 0},
        {"architecture": "style3"},
        {"activation": "gelu"},
        {"resample_filter": ()},
        {"conv_clamp": 0.0},
    ],
    ids=str,
)
def test_wrong_values_of_both(config, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "resample_filter" not in wrong else "filter"):
        config(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"z_dim": 0}, {"w_dim": 0}, {"embed_features": 0}, {"layer_features": 0}, {"lr_multiplier": 0}, {"w_avg_beta": 1}],
    ids=str,
)
def test_wrong_values_of_the_generator(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GeneratorConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"mbstd_group_size": 0}, {"mbstd_num_channels": 3}, {"freeze_layers": -1}, {"cmap_dim": 0}],
    ids=str,
)
def test_wrong_values_of_the_discriminator(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DiscriminatorConfig(**wrong)


def test_width():
    config = GeneratorConfig(img_resolution=256, channel_base=16384, channel_max=512)
    assert [config.channels_at(resolution) for resolution in (4, 32, 64, 256)] == [512, 512, 256, 64]
