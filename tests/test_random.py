"""Counter-based random numbers and draws: known answers, distributions, independence of the batch."""

import hashlib

import pytest
import torch
from scipy import stats

from adaflow.core import random
from adaflow.core.draw import FIRST_NUMBERS, PercentileDraw, PercentileDraws, RandomDraw, RandomDraws
from adaflow.cuda.library import native, reference_ops
from adaflow.errors import ConfigError

RARE = 1e-6  # a statistical test here fails by chance this often
IMAGES = torch.arange(8000)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    """The three vectors that the authors publish with Random123."""
    assert random.philox(torch.tensor(counter), torch.tensor(key)).tolist() == expected


def test_counter_words():
    """A number is a word of the block whose counter is (block, call, image low, image high)."""
    key, image, call = random.stream_key(1, "words"), (7 << 32) + 5, 3
    words = random.philox(torch.tensor([2, call, 5, 7]), torch.tensor([key & random.WORD, key >> 32]))
    expected = ((words >> 9).double() + 0.5) / 2**23
    got = random.uniform(key, torch.tensor([image]), (12,), call)
    assert torch.equal(got[0, 8:].double(), expected)


@pytest.mark.parametrize("elements", [0, 1, 4, 8, 67, 5000])
def test_native_numbers_are_the_same(elements):
    """Bit for bit, for keys and images of all sizes."""
    if native(torch.device("cpu")) is None:
        pytest.skip("there are no native kernels here")
    keys = [0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, random.stream_key(1, "x")]
    images = torch.tensor([0, 1, 2**32 - 1, 2**32, 2**40 + 3, 2**62])[::2]
    for key in (keys, keys[4]):
        numbers = random.uniform(key, images, (elements,), call=2**32 - 1)
        with reference_ops():
            expected = random.uniform(key, images, (elements,), call=2**32 - 1)
        assert torch.equal(numbers, expected)


def test_stream_key():
    expected = int.from_bytes(hashlib.blake2b(b'[3, "a", 1]', digest_size=8).digest(), "little")
    assert random.stream_key(3, "a", 1) == expected
    keys = [
        random.stream_key(*names)
        for names in ((0,), (0, "a"), (0, "a", 1), (0, "a", "1"), (1, "a"), (0, "a1"), (0, "", "a"))
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)


def test_open_interval(monkeypatch):
    """The smallest and the greatest word give numbers inside (0, 1), in float32 too."""
    words = torch.tensor([[0, random.WORD]])
    monkeypatch.setattr(random, "_words", lambda *arguments: words)
    with reference_ops():
        low, high = random.uniform(0, torch.tensor([0]), (2,))[0].tolist()
        assert 0 < low < 1e-6
        assert 1 - 1e-6 < high < 1


@pytest.mark.parametrize("function", [random.uniform, random.normal])
def test_depends_on_the_image_alone(function):
    images = torch.tensor([5, 2**40 + 3, 9, 0])
    batch = function(11, images, (3, 5), call=2)
    for row in range(4):
        assert torch.equal(function(11, images[row : row + 1], (3, 5), call=2)[0], batch[row])
    assert torch.equal(function(11, images.flip(0), (3, 5), call=2), batch.flip(0))
    assert torch.equal(function(11, images, (7,), call=2), batch.flatten(1)[:, :7])
    many = function(11, images, (1000,), call=2)
    for elements in (1, 63, 64, 65, 130, 999):
        assert torch.equal(function(11, images, (elements,), call=2), many[:, :elements])
    several = function([12, 11], images, (3, 5), call=2)
    assert several.shape == (2, 4, 3, 5)
    assert torch.equal(several[1], batch)
    for other in (
        function(12, images, (3, 5), 2),
        function(11, images + 1, (3, 5), 2),
        function(11, images, (3, 5), 1),
    ):
        assert not torch.isclose(other, batch).any()


def test_shapes_and_types():
    assert random.uniform(0, IMAGES[:3]).shape == (3,)
    assert random.normal(0, IMAGES[:0], (4,)).shape == (0, 4)
    assert random.uniform(0, IMAGES[:3], (2, 0)).shape == (3, 2, 0)
    with pytest.raises(TypeError, match="int64"):
        random.uniform(0, torch.zeros(3))


@pytest.mark.parametrize("elements", [1, 3, 64, 1000])
def test_native_numbers_are_those_of_the_reference(elements):
    images = torch.arange(1_000_000 // elements)
    uniform, normal = (function(7, images, (elements,), 2) for function in (random.uniform, random.normal))
    with reference_ops():
        assert torch.equal(uniform, random.uniform(7, images, (elements,), 2))
        torch.testing.assert_close(normal, random.normal(7, images, (elements,), 2), rtol=1e-6, atol=4e-6)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_distributions(shape):
    assert stats.kstest(random.uniform(1, IMAGES, shape).flatten().numpy(), "uniform").pvalue > RARE
    assert stats.kstest(random.normal(1, IMAGES, shape).flatten().numpy(), "norm").pvalue > RARE


def test_lanes_images_and_calls_are_uncorrelated():
    numbers = torch.cat(
        [random.normal(1, IMAGES, (6,)), random.normal(1, IMAGES, (6,), call=1), random.normal(2, IMAGES, (6,))], 1
    )
    numbers = torch.cat([numbers[:-1], numbers[1:]], 1)
    correlation = torch.corrcoef(numbers.T).fill_diagonal_(0)
    bound = stats.norm.isf(RARE / correlation.numel()) / len(numbers) ** 0.5
    assert correlation.abs().max() < bound


def draw(call=0):
    """A draw whose numbers come from the stream's first ones, or from a call of their own."""
    made = RandomDraw(random.stream_key(0, "test"), IMAGES)
    made.used = FIRST_NUMBERS * call
    return made


@pytest.mark.parametrize("call", [0, 1])
def test_draw_distributions(call):
    def fits(numbers, distribution):
        return stats.kstest(numbers.flatten().numpy(), distribution.cdf).pvalue > RARE

    assert fits(draw(call).uniform(-2, 3), stats.uniform(-2, 5))
    assert fits(draw(call).uniform(-2, 3, (2,)), stats.uniform(-2, 5))
    assert fits(draw(call).normal(0.3, 1.0), stats.norm(1.0, 0.3))
    assert fits(draw(call).normal(0.3, shape=(3, 4)), stats.norm(0.0, 0.3))
    assert fits(draw(call).lognormal2(0.7).log2(), stats.norm(0, 0.7))
    assert fits(draw(call).half_normal(0.7), stats.halfnorm(0, 0.7))
    counts = draw(call).integers(3).bincount()
    assert stats.chisquare(counts.numpy()).pvalue > RARE
    fired = int(draw(call).fires(0.2).sum())
    assert stats.binomtest(fired, len(IMAGES), 0.2).pvalue > RARE


def test_draw_is_a_sequence():
    """Successive numbers differ; a selection goes on where the whole draw would; prefetching changes nothing."""
    places = [("a", 0), ("b", 0), ("b", 1)]
    plain, prefetched = (RandomDraws(4, "stream", IMAGES[:50]) for _ in range(2))
    prefetched.prefetch(places)
    for name, place in places:
        left, right = plain.draw(name, place), prefetched.draw(name, place)
        seen = []
        for shape in ((), (2,), (3, 3), (), (5,), (3, 3), ()):
            index = torch.tensor([40, 3])
            chosen = right.select(index).unit(shape)
            numbers = left.unit(shape)
            assert torch.equal(numbers, right.unit(shape))
            assert torch.equal(numbers[index], chosen)
            seen.append(numbers.flatten(1) if shape else numbers[:, None])
        seen = torch.cat(seen, 1)
        assert seen.unique().numel() > 0.99 * seen.numel()
    assert not torch.equal(plain.draw("b", 0).unit(), plain.draw("b", 1).unit())
    assert not torch.equal(plain.draw("b", 0).unit(), RandomDraws(4, "other", IMAGES[:50]).draw("b", 0).unit())
    assert torch.equal(
        plain.draw("b").select(plain.draw("b").fires(0.5)).unit(), plain.draw("b").unit()[plain.draw("b").fires(0.5)]
    )


def test_gates_never_and_always_fire():
    assert not draw().fires(0.0).any()
    assert draw().fires(1.0).all()
    assert torch.equal(draw().fires(torch.tensor(0.3)), draw().fires(0.3))


def test_numbers_are_not_shared():
    """Writing into a number does not change what the draw's copy gives next."""
    draws = RandomDraws(0, "stream", IMAGES[:4])
    draws.prefetch([("a", 0)])
    before = draws.draw("a").unit().clone()
    draws.draw("a").unit().zero_()
    assert torch.equal(draws.draw("a").unit(), before)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_percentile_draw(q):
    percentile = PercentileDraws(q, 3).draw("anything", 1)
    close = lambda numbers, value: torch.allclose(numbers, torch.full_like(numbers, value), rtol=1e-5, atol=1e-6)  # noqa: E731
    assert close(percentile.uniform(-1, 3, (2,)), -1 + 4 * q)
    assert close(percentile.normal(0.5, 1.0), 1 + stats.norm.ppf(q) * 0.5)
    assert percentile.normal(shape=(2, 2)).shape == (3, 2, 2)
    assert close(percentile.lognormal2(2.0), 2 ** (stats.norm.ppf(q) * 2))
    assert close(percentile.half_normal(2.0), stats.halfnorm.ppf(q) * 2)
    assert percentile.integers(4).tolist() == [int(4 * q)] * 3
    assert percentile.fires(0.01).tolist() == [True] * 3
    assert percentile.fires(torch.tensor(0.0)).tolist() == [False] * 3
    assert percentile.select(torch.tensor([True, False, True])).unit().tolist() == pytest.approx([q, q])
    assert percentile.select(torch.tensor([1])).n == 1


def test_integers_at_the_top():
    """count · u rounds up to count in float32 for u close to 1."""
    assert PercentileDraw(1 - 2.0**-24, 1).integers(3).tolist() == [2]


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, float("nan")])
def test_percentile_out_of_range(q):
    with pytest.raises(ConfigError, match="out of range"):
        PercentileDraw(q, 1)
