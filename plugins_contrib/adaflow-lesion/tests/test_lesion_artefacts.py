"""What lies on the skin looks like what it is called: hair, rulers, ink, stickers, bubbles, highlights."""

import pytest
import torch
from adaflow_lesion.canvas import Canvas, paint, shade
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_helpers import draws, pipeline, random_images, skin
from scipy.ndimage import label

from adaflow.core.draw import PercentileDraws

MANY, SIZE = 48, 64
checked = settings(max_examples=40, deadline=None, derandomize=True)


def difference(spec, images=None, seed=0):
    """[n, C, H, W]: what a transform adds to plain skin."""
    images = skin(MANY, SIZE) if images is None else images
    return pipeline(spec)(images, 1.0, draws(len(images), seed)) - images


def covered(change):
    """[n]: the share of pixels that changed visibly."""
    return (change.abs().amax(1) > 0.05).float().mean((1, 2))


# Canvas


@checked
@given(st.floats(0.001, 0.3), st.floats(-0.1, 0.1), st.integers(16, 70))
def test_a_stripe_covers_its_width_however_fine_it_is(half_width, middle, size):
    canvas = Canvas.of(torch.empty(1, 1, size, size + 5))
    cover = canvas.stripe(canvas.x - middle, torch.tensor(half_width))
    assert float(cover.sum() * canvas.pixel) == pytest.approx(2 * half_width, abs=1e-4)
    assert cover.min() >= 0
    assert cover.max() <= 1 + 1e-6


@checked
@given(st.floats(0.003, 0.2), st.floats(0.05, 0.45), st.integers(16, 70))
def test_a_comb_covers_its_share_however_fine_it_is(spacing, share, size):
    canvas = Canvas.of(torch.empty(1, 1, size, size))
    along, half_width = canvas.x + 0.123, torch.tensor(share * spacing)
    cover = canvas.comb(along, torch.tensor(spacing), half_width)
    # At either end one stripe may be cut.
    assert float(cover.mean()) == pytest.approx(2 * share, abs=2 * spacing * share + 1e-4)
    assert cover.min() >= -1e-3
    assert cover.max() <= 1 + 1e-3


def test_the_canvas_is_centred_and_its_unit_is_the_shorter_side():
    canvas = Canvas.of(torch.empty(1, 1, 20, 30))
    assert (canvas.half_width, canvas.half_height) == (0.75, 0.5)
    assert float(canvas.x[0, -1] + canvas.pixel / 2) == pytest.approx(0.75)
    assert float(canvas.y.sum()) == pytest.approx(0, abs=1e-6)
    along, across = canvas.turned(torch.zeros(1), torch.zeros(1), torch.tensor([torch.pi / 2]))
    torch.testing.assert_close(along[0], canvas.y.expand(20, 30))
    torch.testing.assert_close(across[0], -canvas.x.expand(20, 30))


def test_the_mottle_has_mean_0_and_deviation_1():
    pattern = Canvas.of(torch.empty(1, 1, 96, 96)).mottle(draws(200).draw("mottle"), 0.1)
    assert float(pattern.mean()) == pytest.approx(0, abs=0.02)
    assert float(pattern.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_paint_and_shade(channels):
    images = random_images(1, channels, 4, 4)
    cover = torch.zeros(1, 4, 4)
    cover[0, 0, 0] = 1.0
    colour = torch.tensor([[0.0, 0.5, 1.0]])
    painted = paint(images, cover, colour)
    expected = [-1.0, 0.0, 1.0] if channels in (3, 4) else [0.0] * channels
    assert painted[0, : len(expected), 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(painted[..., 1:, :], images[..., 1:, :])
    assert torch.equal(shade(images, torch.zeros(1, 1, 4, 4)), images)
    black = shade(images, torch.full((1, 3, 4, 4), -1.0))
    visible = 3 if channels == 4 else channels
    assert black[:, :visible].add(1).abs().max() < 1e-6
    if channels == 4:
        assert torch.equal(painted[:, 3], images[:, 3])
        assert torch.equal(black[:, 3], images[:, 3])


# Hair


def test_dark_hair_darkens_and_covers_a_small_part():
    change = difference("lesion-hair(light=0)")
    assert change.max() <= 1e-6
    assert change.amin((1, 2, 3)).median() < -0.3
    assert 0.01 < covered(change).median() < 0.25
    assert covered(change).max() < 0.6


def test_light_hair_brightens_dark_skin():
    dark = skin(MANY, SIZE) - 0.6
    assert difference("lesion-hair(light=1, shadow=0)", dark).min() >= -1e-6
    assert difference("lesion-hair(light=1, shadow=0)", dark).amax((1, 2, 3)).median() > 0.1


def test_more_hairs_and_wider_ones_cover_more():
    usual, one, wide = (
        covered(difference(f"lesion-hair({setting})")).mean() for setting in ("shadow=0", "number=1", "width=0.02")
    )
    assert 2 * one < usual < wide / 2


def test_without_shadow_and_width_there_is_no_hair():
    assert difference("lesion-hair(width=0, shadow=0)").abs().max() == 0


def test_a_hair_tapers():
    """One straight hair, of which the root is thicker than the tip."""
    images = skin(1, 256)
    change = pipeline("lesion-hair(number=1, shadow=0, width=0.03)")(images, 1.0, PercentileDraws(0.5, 1)) - images
    across = change[0, 0].sum(0)  # at the median it runs from left to right
    on = (across < -0.1).nonzero().flatten()
    quarter = len(on) // 4
    assert len(on) > 100
    assert across[on[:quarter]].mean() < 1.5 * across[on[-quarter:]].mean()


# Ruler


def test_a_ruler_has_ticks_a_millimetre_apart():
    """At the median: along the upper side, 15 mm of 0.05 each."""
    images = skin(1, 512)
    out = pipeline("lesion-ruler(millimetre=0.05, across=0, rim=0, tilt=0)")(images, 1.0, PercentileDraws(0.5, 1))
    dark = (images - out)[0, 0] > 0.3
    rows = dark.sum(1)
    line = int(rows.argmax())
    assert rows[line] == pytest.approx(0.75 * 512, abs=4)

    def ticks(share_of_spacing):
        row = dark[line + int(share_of_spacing * 0.05 * 512)]
        return (row[1:] & ~row[:-1]).nonzero().flatten()

    assert len(ticks(0.45)) == 16
    assert (ticks(0.45).diff() - 0.05 * 512).abs().max() <= 1
    assert len(ticks(0.7)) == 4
    assert len(ticks(0.9)) == 2


def test_a_ruler_darkens_a_little_and_is_near_a_side():
    change = difference("lesion-ruler(across=0)")
    assert change.max() <= 1e-6
    assert 0.001 < covered(change).median() < 0.1
    assert change[..., 20:44, 20:44].abs().max() < 1e-6


def test_a_ruler_across_runs_in_any_direction():
    change = difference("lesion-ruler(across=1, rim=0)")[:, 0]
    upright = (change.sum(1).amin(1) - change.sum(2).amin(1)).abs()
    assert (upright < 1).sum() > MANY / 4  # neither rows nor columns stand out


# Ink


def test_ink_is_translucent_and_violet():
    change = difference("lesion-ink")
    assert change.max() <= 1e-6
    red, green, blue = (change / (skin(MANY, SIZE) + 1)).mean((0, 2, 3))
    assert green < red < blue < 0
    assert 0.003 < covered(change).median() < 0.12
    black = torch.full((MANY, 3, SIZE, SIZE), -1.0)
    assert difference("lesion-ink", black).abs().max() < 1e-6


def test_ink_multiplies():
    """What it leaves of a brightness does not depend on the brightness."""
    light = difference("lesion-ink", torch.full((4, 3, 32, 32), 0.8)) / 1.8
    dark = difference("lesion-ink", torch.full((4, 3, 32, 32), -0.4)) / 0.6
    torch.testing.assert_close(light, dark, rtol=0, atol=1e-6)


# Sticker


@pytest.mark.parametrize("rectangles", [0.0, 1.0])
def test_a_sticker_touches_the_border_and_hides_what_is_below(rectangles):
    spec = f"lesion-sticker(rectangles={rectangles})"
    visible = covered(difference(spec)) > 0.01
    assert visible.float().mean() > 0.8
    change = difference(spec).abs().amax(1) > 0.02
    border = change[:, 0].any(1) | change[:, -1].any(1) | change[:, :, 0].any(1) | change[:, :, -1].any(1)
    assert border[visible].all()
    assert covered(difference(spec)).max() < 0.5
    one, other = (pipeline(spec)(random_images(16, 3, SIZE, SIZE, seed=s), 1.0, draws(16)) for s in (0, 1))
    assert (one == other).all(1).float().mean() > 0.02


def test_a_disc_reaches_no_farther_than_its_depth():
    change = difference("lesion-sticker(rectangles=0, depth=0.2)").abs().amax(1)
    inside = round(0.2 * SIZE * 2**0.5) + 1
    assert change[:, inside:-inside, inside:-inside].max() < 1e-6


# Gel and highlights


def test_bubbles_have_bright_and_dark_rings_and_show_the_skin_inside():
    images = skin(1, 256)
    out = pipeline("lesion-gel(number=1, radius=0.2)")(images, 1.0, PercentileDraws(0.5, 1)) - images
    profile = out[0, 0, 128, 128:]  # from the middle of the image, which is that of the bubble, to the right
    radius = 0.2 * 256
    assert profile[round(radius)] < -0.1
    assert profile[round(0.86 * radius)] > 0.1
    assert profile[round(0.2 * radius)].abs() < 1e-6
    assert profile[round(1.2 * radius) :].abs().max() < 1e-6


def test_bubbles_cover_a_small_part():
    change = difference("lesion-gel")
    assert change.max() > 0.1
    assert change.min() < -0.1
    assert 0.001 < covered(change).median() < 0.15


def test_highlights_brighten_and_are_small():
    change = difference("lesion-highlights")
    assert change.min() >= -1e-6
    assert change.amax((1, 2, 3)).median() > 0.2
    assert 0.001 < covered(change).median() < 0.15
    lightest = pipeline("lesion-highlights(strength=1)")(skin(MANY, SIZE), 1.0, draws(MANY)).amin(1).amax((1, 2))
    assert lightest.max() > 0.9
    assert difference("lesion-highlights(strength=0)").abs().max() == 0


@pytest.mark.parametrize(
    "spec", ["lesion-gel(number=5, radius=0.04, strength=1)", "lesion-highlights(number=5, radius=0.01)"]
)
def test_as_many_as_drawn(spec):
    """1 to 5, each as often as another; a few lie beyond the border, on one another or are too faint."""
    change = difference(spec, skin(200, 96))[:, 0]
    marked = change < -0.02 if "gel" in spec else change > 0.02
    counts = torch.tensor([label(image, torch.ones(3, 3))[1] for image in marked.numpy()])
    assert counts.max() <= 5
    assert 2.2 < counts.float().mean() < 3.2
    assert (counts == 1).float().mean() > 0.12


def test_few_hairs_are_more_likely_than_many():
    """Their number is 1 to 16, a quarter of the time 1; then they cover far less than otherwise."""
    share = covered(difference("lesion-hair(shadow=0, light=0)", skin(200, SIZE))).sort().values
    assert share[30] < 0.25 * share[150]
