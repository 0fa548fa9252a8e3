"""The order in which training sees the images: fresh in every epoch, a function of seed and counter, balanced."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.data.sampler import BalancedSampler, EpochSampler


def test_every_epoch_is_a_fresh_order_of_all_entries():
    sampler = EpochSampler(50, seed=1)
    epochs = [sampler.indices(torch.arange(50) + 50 * epoch).tolist() for epoch in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_is_a_function_of_seed_stream_and_counter():
    whole = EpochSampler(7, seed=3).indices(torch.arange(100))
    sampler = EpochSampler(7, seed=3)
    for counters in ([93, 2, 50], [99], [0], [93]):
        assert sampler.indices(torch.tensor(counters)).tolist() == whole[counters].tolist()
    assert sampler.indices(61).tolist() == [whole[61].item()]
    assert EpochSampler(7, seed=4).indices(torch.arange(100)).tolist() != whole.tolist()
    assert EpochSampler(7, seed=3, stream="val").indices(torch.arange(100)).tolist() != whole.tolist()


def test_the_order_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    EpochSampler(7, seed=3).indices(torch.arange(20))
    assert torch.equal(torch.get_rng_state(), before)


# Balanced

CLASSES = torch.tensor([3, 0, 0, 7, 0, 3, 0, 0])
"""Classes 0, 3 and 7 with 5, 2 and 1 entries."""


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    seed=st.integers(0, 3),
    first_block=st.integers(0, 10**9),
)
def test_every_block_has_each_class_once(sizes, seed, first_block):
    classes = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    count = len(sizes)
    counters = torch.arange(5 * count) + first_block * count
    seen = classes[BalancedSampler(classes, seed).indices(counters)].view(5, count)
    assert torch.equal(seen.sort(1).values, torch.arange(count).expand(5, -1))


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60), st.integers(0, 5), st.booleans())
def test_any_way_to_ask_gives_the_same_entries(asked, seed, anew):
    whole = BalancedSampler(CLASSES, seed).indices(torch.arange(201))
    sampler = BalancedSampler(CLASSES, seed)
    for start in range(0, len(asked), 7):
        if anew:
            sampler = BalancedSampler(CLASSES, seed)
        part = asked[start : start + 7]
        assert sampler.indices(torch.tensor(part)).tolist() == whole[part].tolist()
    assert sampler.indices(asked[0]).tolist() == [whole[asked[0]].item()]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_together_see_what_one_sees(processes):
    whole = BalancedSampler(CLASSES, 3).indices(torch.arange(96)).view(-1, 8)
    samplers = [BalancedSampler(CLASSES, 3) for _ in range(processes)]
    for step, batch in enumerate(whole):
        parts = [
            sampler.indices(torch.arange(8 * step + rank, 8 * step + 8, processes))
            for rank, sampler in enumerate(samplers)
        ]
        assert torch.equal(torch.stack(parts, 1).flatten(), batch)


def test_a_class_shows_all_its_entries_before_one_comes_again():
    seen = BalancedSampler(CLASSES, 5).indices(torch.arange(3 * 40))
    for k, size in ((0, 5), (3, 2), (7, 1)):
        epochs = seen[CLASSES[seen] == k].view(-1, size)
        members = (k == CLASSES).nonzero().flatten()
        assert torch.equal(epochs.sort(1).values, members.expand(len(epochs), -1))
    orders = {tuple(epoch) for epoch in seen[CLASSES[seen] == 0].view(-1, 5).tolist()}
    assert len(orders) > 4


def test_the_order_of_classes_is_random_in_every_block():
    classes = torch.arange(3)
    blocks = BalancedSampler(classes, 1).indices(torch.arange(6000 * 3)).view(-1, 3)
    counts = Counter(map(tuple, blocks.tolist()))
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())


def test_seed_and_stream_change_the_balanced_order():
    counters = torch.arange(60)
    orders = [BalancedSampler(CLASSES, *which).indices(counters).tolist() for which in ((0,), (1,), (0, "val"))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_the_balanced_order_stays_the_same_between_versions():
    """A change here makes runs of earlier versions resume with other images."""
    assert BalancedSampler(CLASSES, 0).indices(torch.arange(300, 309)).tolist() == [3, 5, 1, 3, 0, 6, 4, 5, 3]
