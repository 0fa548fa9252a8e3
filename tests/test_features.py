"""Feature extractors: what they give, how plugins add one, weights that are verified before they are used."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torch.nn.functional as F

from adaflow.core import weights
from adaflow.core.download import fetch
from adaflow.core.features import NetworkExtractor
from adaflow.core.weights import WeightsFile, named_weights
from adaflow.errors import ConfigError, FileError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.features.dinov2 import DINOv2, VisionTransformer
from adaflow.plugins.features.efficientnet import EfficientNetLite0
from adaflow.plugins.features.torchscript import Inception
from adaflow.plugins.metrics.frechet import FID
from adaflow.plugins.metrics.kernel import KID
from tests.runs import small_run

pytest_plugins = ["tests.command_line"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "user_cache", lambda part: tmp_path / "cache" / part)
    return tmp_path / "cache" / "weights"


# What is built in


def test_built_in_extractors_are_registered():
    features = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).features
    assert [entry.name for entry in features] == [
        "dinov2",
        "dinov2-l",
        "efficientnet-lite0",
        "inception",
        "vgg16-lpips",
    ]
    for entry in features:
        assert entry.value.name == entry.name
        if entry.name != "efficientnet-lite0":
            assert entry.value.weights.extractor == entry.name


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0()


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


@pytest.mark.parametrize("size", [16, 64, 80])
def test_efficientnet_gives_1280_features_an_image_always_the_same(extractor, size):
    images = pictures(3, 3, size, size)
    features = extractor(images)
    assert features.shape == (3, 1280)
    assert features.dtype == torch.float32
    assert torch.equal(features, extractor(images))
    assert torch.equal(features, EfficientNetLite0()(images))
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-3
    torch.testing.assert_close(features[1:2], extractor(images[1:2]), rtol=1e-4, atol=1e-4)


def test_efficientnet_takes_grey_for_rgb_without_colour(extractor):
    grey = pictures(2, 1, 32, 32)
    assert torch.equal(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))


def test_efficientnet_says_nothing_when_it_loads(capfd):
    EfficientNetLite0()
    assert capfd.readouterr() == ("", "")


def test_features_of_batches_are_those_of_the_whole(extractor):
    images = pictures(6, 3, 16, 16)
    torch.testing.assert_close(extractor.all(images.split(4)), extractor(images), rtol=1e-4, atol=1e-4)


def test_efficientnet_gives_class_probabilities(extractor):
    probabilities = extractor.probabilities(pictures(3, 3, 64, 64))
    assert probabilities.shape == (3, 1000)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


# Plugins: size, range, a network


class Corner(NetworkExtractor):
    name = "corner"
    size = 8
    input_range = (-1, 1)
    mean = (0.5, 0.0, 0.0)
    std = (2,)

    def load(self):
        return torch.nn.Flatten()


def test_an_extractor_gets_images_of_its_size_and_range():
    black, white = (torch.full((1, 3, 8, 8), value, dtype=torch.uint8) for value in (0, 255))
    assert Corner()(black).view(3, 64)[:, 0].tolist() == [-0.75, -0.5, -0.5]
    assert Corner()(white).view(3, 64)[:, 0].tolist() == [0.25, 0.5, 0.5]
    assert Corner()(pictures(2, 1, 20, 20)).shape == (2, 192)
    stripes = torch.tensor([0, 255, 255, 0], dtype=torch.uint8).repeat(8).expand(1, 3, 32, -1)
    assert (Corner().prepare(stripes)[0, 1] * 2).abs().max() < 0.3, "resized without antialiasing"
    with pytest.raises(ConfigError, match="corner knows no classes"):
        Corner().probabilities(black)


def test_the_identity_of_an_extractor_changes_with_its_code_version_and_device(tmp_path):
    source = (
        "import adaflow, torch\n"
        "class A(adaflow.NetworkExtractor):\n"
        "    name = 'a'\n"
        "    size = {}\n"
        "    def load(self): return torch.nn.Flatten()\n"
        "@adaflow.hookimpl\n"
        "def register_feature_extractors(register): register('a', A)\n"
    )
    kinds = []
    for size in (4, 5):
        file = tmp_path / f"plug{size}.py"
        file.write_text(source.format(size))
        kinds.append(PluginManager([file], environ={"ADAFLOW_NO_PLUGINS": "1"}).features["a"].value)
    first, second = kinds[0](), kinds[1]()
    assert first.identity() == kinds[0]().identity() != second.identity()
    second = kinds[0]()
    second.version = "2"
    assert first.identity() != second.identity()


# Weights


class Scripted(torch.nn.Module):
    """As the published file answers: features, or probabilities."""

    def forward(self, images: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        x = images.to(torch.float32).mean([2, 3])
        if return_features:
            return x
        return x.softmax(1) if no_output_bias else x * 0


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A TorchScript file that passes for the published one."""
    path = tmp_path / "elsewhere.pt"
    torch.jit.script(Scripted()).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = WeightsFile("inception", "inception.pt", "http://127.0.0.1:9/inception.pt", digest, 1)
    monkeypatch.setattr(Inception, "weights", file)
    return path


def test_inception_takes_weights_from_the_cache_or_from_a_named_file(scripted, cache):
    with pytest.raises(FileError, match="not on this machine"):
        Inception.check()
    with pytest.raises(FileError, match="not on this machine"):
        Inception()
    images = pictures(2, 1, 5, 5)
    with named_weights((scripted,)):
        features = Inception()(images)
    torch.testing.assert_close(features, images.float().mean((2, 3)).expand(-1, 3))
    Inception.weights.add(scripted)
    Inception.check()
    extractor = Inception()
    assert torch.equal(extractor(images), features)
    assert extractor.probabilities(images).tolist() == [[pytest.approx(1 / 3)] * 3] * 2
    assert extractor.version == Inception.weights.sha256


def test_nothing_of_a_file_that_is_another_one_is_run(scripted, cache, monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: loaded.append(1))
    Inception.weights.add(scripted)
    kept = cache / "inception.pt"
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    with pytest.raises(FileError, match="SHA-256"):
        Inception()
    with named_weights((kept,)), pytest.raises(FileError, match="SHA-256"):
        Inception()
    assert not loaded


def test_only_with_inception_is_a_distance_called_fid_or_kid(scripted, tmp_path):
    from adaflow.core.metric import MetricContext
    from adaflow.plugins.metrics.frechet import FID50kFull, FrechetDistance
    from adaflow.plugins.metrics.kernel import KernelDistance

    dataset = small_run(tmp_path).dataset
    with named_weights((scripted,)):
        used = {"inception": Inception(), "": Corner(), "corner": Corner()}
    context = MetricContext(lambda n: iter([dataset.images[:n]]), dataset, used.__getitem__, seed=0)
    names = [
        *(name for kind in (FID, KID) for name in kind(num=20).compute(context)),
        *(name for kind in (FrechetDistance, KernelDistance) for name in kind(num=20).compute(context)),
        *FrechetDistance(num=20, extractor="inception").compute(context),
    ]
    assert names == ["fid20", "kid20", "fd20_corner", "kd20_corner", "fid20"]
    assert FID50kFull().result_name("inception") == "fid50k_full"


def test_a_file_the_user_vouches_for_is_taken_until_the_published_one_comes(scripted, cache, tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(scripted.read_bytes() + b"\0")
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(FileError, match=digest):
        Inception.weights.add(other)
    assert not cache.exists() or not list(cache.iterdir())
    Inception.weights.add(other, digest)
    assert Inception.weights.accepted == digest
    assert Inception.weights.read() == other.read_bytes()
    Inception.weights.add(scripted)
    assert Inception.weights.accepted == Inception.weights.sha256
    assert Inception.weights.read() == scripted.read_bytes()


# Downloads, from a server on this machine


@pytest.fixture
def server(scripted):
    """Serves the file; `server.cut` ends answers early, `server.ranges` collects what was asked for."""
    content = scripted.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            httpd.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and httpd.resumes else 0
            body = httpd.content[start:]
            if self.path != "/inception.pt":
                self.send_error(404)
            elif not body:
                self.send_error(416)
            else:
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: httpd.cut])

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.content, httpd.cut, httpd.ranges, httpd.resumes = content, None, [], True
    httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}/inception.pt"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def left(cache):
    return sorted(path.name for path in cache.iterdir())


def test_a_download_is_verified_and_kept(server, cache):
    told = []
    path = fetch(Inception.weights, server.url, progress=lambda *step: told.append(step))
    assert path == cache / "inception.pt"
    assert path.read_bytes() == server.content
    assert told[-1] == (len(server.content), len(server.content))
    assert left(cache) == ["inception.pt"]
    fetch(Inception.weights, server.url)
    assert len(server.ranges) == 1, "what is there is not downloaded again"


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_goes_on_where_it_ended(server, cache, resumes):
    server.cut = 100
    with pytest.raises(FileError, match="ended after 100 of"):
        fetch(Inception.weights, server.url)
    assert not (cache / "inception.pt").exists()
    server.cut, server.resumes = None, resumes
    assert fetch(Inception.weights, server.url).read_bytes() == server.content
    assert server.ranges == [None, "bytes=100-"]


def test_a_download_of_another_file_is_thrown_away(server, cache):
    original, server.content = server.content, b"something else"
    with pytest.raises(FileError, match="SHA-256"):
        fetch(Inception.weights, server.url)
    assert left(cache) == []
    server.content = original
    assert fetch(Inception.weights, server.url).read_bytes() == original


def test_a_download_that_ended_before_it_could_be_looked_at_is_not_repeated(server, cache):
    cache.mkdir(parents=True)
    (cache / f".inception.pt.{Inception.weights.sha256[:8]}.partial").write_bytes(server.content)
    assert fetch(Inception.weights, server.url).read_bytes() == server.content
    assert left(cache) == ["inception.pt"]


def test_commands_about_weights(server, scripted, cache, cli, tmp_path):
    assert "not here (1 MB)" in cli("features", "list").out
    result = cli("features", "fetch", "inception")  # nobody answers at the published address of this test
    assert (result.code, "cannot be downloaded" in result.err) == (3, True)
    result = cli("features", "fetch", "inception", "--url", server.url.replace("inception", "other"))
    assert (result.code, "404" in result.err) == (3, True)
    result = cli("features", "fetch", "inception", "--url", "file:///etc/passwd")
    assert (result.code, "is no address" in result.err) == (2, True)
    result = cli("features", "fetch", "inception", "--url", server.url, "--sha256", "0" * 64)
    assert (result.code, "SHA-256" in result.err) == (3, True)
    result = cli("features", "fetch", "inception", "--sha256", "abc")
    assert (result.code, "64 digits" in result.err) == (2, True)
    result = cli("features", "fetch", "efficientnet-lite0")
    assert (result.code, "needs no file" in result.err) == (2, True)
    result = cli("features", "fetch", "inceptio")
    assert (result.code, "Did you mean inception" in result.err) == (3, True)
    result = cli("features", "add", "inception", tmp_path / "gone")
    assert (result.code, "there is no file" in result.err) == (3, True)
    assert not cache.exists() or not [name for name in left(cache) if not name.endswith(".partial")]
    result = cli("features", "fetch", "inception", "--url", server.url)
    assert (result.code, result.err) == (0, "")
    assert cli("features", "add", "inception", scripted).code == 0
    assert '"weights": "here"' in cli("features", "list", "--json").out


# DINOv2


def test_vision_transformer_against_the_encoder_of_torch():
    """The same weights in torch's own encoder layers, at the size the positions were learned for."""
    torch.manual_seed(0)
    width, depth, heads = 24, 2, 3
    ours = VisionTransformer(width, depth, heads).eval()
    for parameter in ours.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2
    images = torch.randn(2, 3, 14 * 37, 14 * 37)
    layers = []
    for block in ours.blocks:
        layer = torch.nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        state = {
            "self_attn.in_proj_weight": block.attn.qkv.weight,
            "self_attn.in_proj_bias": block.attn.qkv.bias,
            "self_attn.out_proj.weight": block.attn.proj.weight * block.ls1.gamma[:, None],
            "self_attn.out_proj.bias": block.attn.proj.bias * block.ls1.gamma,
            "linear1.weight": block.mlp["fc1"].weight,
            "linear1.bias": block.mlp["fc1"].bias,
            "linear2.weight": block.mlp["fc2"].weight * block.ls2.gamma[:, None],
            "linear2.bias": block.mlp["fc2"].bias * block.ls2.gamma,
            **{
                f"norm{i}.{name}": getattr(getattr(block, f"norm{i}"), name)
                for i in (1, 2)
                for name in ("weight", "bias")
            },
        }
        layer.load_state_dict(state)
        layers.append(layer.eval())
    kernel, bias = ours.patch_embed["proj"].weight, ours.patch_embed["proj"].bias
    patches = F.unfold(images, 14, stride=14).transpose(1, 2) @ kernel.flatten(1).T + bias
    x = torch.cat((ours.cls_token.expand(2, -1, -1), patches), 1) + ours.pos_embed
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
        expected = F.layer_norm(x[:, 0], (width,), ours.norm.weight, ours.norm.bias, 1e-6)
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)


def test_positions_for_other_sizes_follow_the_learned_ones():
    network = VisionTransformer(2, 1, 1)
    ramp = torch.linspace(-1, 1, 37)
    network.pos_embed.data[0, 1:, 0] = ramp.repeat(37)
    network.pos_embed.data[0, 1:, 1] = ramp.repeat_interleave(37)
    network.pos_embed.data[0, 0] = 5
    positions = network.positions(16)
    assert positions.shape == (1, 257, 2)
    assert (positions[0, 0] == 5).all()
    grid = positions[0, 1:].view(16, 16, 2)
    expected = ((torch.arange(16) + 0.5) / 16.1 * 37 - 0.5) / 18 - 1
    torch.testing.assert_close(grid[3, 2:-2, 0], expected[2:-2], rtol=0, atol=0.01)
    torch.testing.assert_close(grid[2:-2, 3, 1], expected[2:-2], rtol=0, atol=0.01)


def test_dinov2_reads_the_published_layout_and_nothing_else(tmp_path, monkeypatch):
    state = VisionTransformer(16, 1, 2).state_dict()
    names = {name for name in state if name.startswith("blocks.0.")}
    assert {"blocks.0.attn.qkv.weight", "blocks.0.ls1.gamma", "blocks.0.mlp.fc2.bias", "blocks.0.norm2.weight"} <= names
    assert set(state) - names == {
        *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias")
    }

    def use(content):
        path = tmp_path / "dino.pth"
        torch.save(content, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(DINOv2, "weights", WeightsFile("dinov2", "dino.pth", "http://x", digest, 1))
        monkeypatch.setattr(DINOv2, "shape", (16, 1, 2))
        with named_weights((path,)):
            return DINOv2()

    extractor = use({**state, "mask_token": torch.zeros(1, 16)})
    assert extractor(pictures(2, 1, 30, 30)).shape == (2, 16)
    with pytest.raises(FileError, match="does not hold the weights of dinov2"):
        use({name: value for name, value in state.items() if name != "norm.bias"})
