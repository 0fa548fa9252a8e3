"""Which images are set apart for validation."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.data.split import describe_miss, validation_part
from adaflow.errors import ConfigError, DataError

GROUPS = st.lists(st.none() | st.integers(0, 6), min_size=2, max_size=40)
FRACTIONS = st.floats(0.01, 0.99)


def sizes(groups):
    """Group → images; an image without a group is one."""
    members = {}
    for index, group in enumerate(groups):
        members.setdefault(("alone", index) if group is None else group, []).append(index)
    return members


@given(groups=GROUPS, fraction=FRACTIONS, seed=st.integers())
def test_no_group_is_divided_and_neither_part_is_empty(groups, fraction, seed):
    members = sizes(groups)
    if len(members) < 2:
        with pytest.raises(DataError, match="cannot be divided"):
            validation_part(groups, fraction, seed)
        return
    part = validation_part(groups, fraction, seed)
    assert part == sorted(set(part))
    assert 0 < len(part) < len(groups)
    for images in members.values():
        assert set(images) <= set(part) or not set(images) & set(part)
    # No other group that would bring the number nearer was left behind.
    target = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    if len(part) < target:
        left = [len(images) for images in members.values() if images[0] not in part]
        assert all(
            abs(len(part) + size - target) >= target - len(part) for size in left if len(part) + size < len(groups)
        )


@given(count=st.integers(2, 200), fraction=FRACTIONS, seed=st.integers())
def test_without_groups_the_number_is_exact(count, fraction, seed):
    part = validation_part([None] * count, fraction, seed)
    assert len(part) == min(max(round(fraction * count), 1), count - 1)


@given(groups=GROUPS, fraction=FRACTIONS, shift=st.integers(1, 100))
def test_the_numbers_of_the_groups_do_not_matter(groups, fraction, shift):
    if len(sizes(groups)) > 1:
        renamed = [None if group is None else (group * 7 + shift) % 101 for group in groups]
        assert validation_part(renamed, fraction, 3) == validation_part(groups, fraction, 3)


def test_the_choice_is_the_same_for_ever():
    groups = [index // 3 if index < 18 else None for index in range(24)]
    assert validation_part(groups, 0.25, 0) == [6, 7, 8, 12, 13, 14]
    assert validation_part(groups, 0.25, 1) == [6, 7, 8, 19, 20, 23]


def test_seeds_choose_differently_and_evenly():
    chosen = [0] * 20
    for seed in range(400):
        for index in validation_part([None] * 20, 0.25, seed):
            chosen[index] += 1
    assert sum(chosen) == 400 * 5
    assert 60 < min(chosen) <= max(chosen) < 140


def test_many_groups_come_near_the_fraction():
    rng = random.Random(0)
    groups = [rng.randrange(300) for _ in range(2000)]
    assert abs(len(validation_part(groups, 0.1, 0)) - 200) <= 2


def test_one_large_group_does_not_fill_the_validation_part():
    groups = [0] * 90 + list(range(1, 11))
    for seed in range(20):
        assert len(validation_part(groups, 0.1, seed)) == 10


def test_groups_larger_than_the_fraction_give_the_smallest():
    assert validation_part([0] * 10 + [1] * 8 + [2] * 12, 0.01, 0) == list(range(10, 18))


def test_a_part_far_from_the_fraction_is_described():
    assert describe_miss(5, 10, 0.3).startswith("50% of the images are set apart, not 30%")
    assert describe_miss(3, 10, 0.3) == describe_miss(1, 100, 0.001) == describe_miss(110, 1000, 0.1) == ""
    assert describe_miss(50, 1000, 0.1)


def test_something_is_left_for_training():
    for seed in range(10):
        assert len(validation_part([0] + [1] * 9, 0.9, seed)) in (1, 9)
        assert len(validation_part([None] * 3, 0.99, seed)) == 2


def test_nothing_is_set_apart_when_nothing_is_asked_for():
    assert validation_part([0, 0, 0], 0, 0) == []


@pytest.mark.parametrize("groups", [[], [None], [5], [5, 5, 5]])
def test_what_cannot_be_divided(groups):
    with pytest.raises(DataError, match="cannot be divided"):
        validation_part(groups, 0.5, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ConfigError, match="fraction"):
        validation_part([None] * 10, fraction, 0)
