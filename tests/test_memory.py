"""How much memory images may take at a time, and what happens when there is too little."""

import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from adaflow.core.data import decode as decode_module
from adaflow.core.data import decode_all as decode_all_module
from adaflow.core.data import parallel
from adaflow.core.data import prepare as prepare_module
from adaflow.core.data.decode_all import decode_to_memory
from adaflow.core.data.parallel import PixelBudget, ordered_map
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.scan import examine, facts_of
from adaflow.core.data.source import ImageSource, open_source
from adaflow.errors import DataError

pytest_plugins = ["tests.images"]

MIB = 1 << 20


class Drawn(ImageSource):
    """Black images of given heights and widths."""

    name = "drawn"

    def __init__(self, *sides):
        self.sides = sides

    def __len__(self):
        return len(self.sides)

    def image_name(self, index):
        return str(index)

    def read(self, index):
        return np.zeros((3, self.sides[index], self.sides[index]), np.uint8)

    def fingerprint(self):
        return "0"


def peak_of(function, *arguments):
    tracemalloc.start()
    try:
        result = function(*arguments)
        return result, tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def refused(source):
    with pytest.raises(DataError, match="not square"):
        decode_to_memory(source, range(len(source)), 1, None)


def test_images_that_tell_the_shape_are_not_kept():
    _, peak = peak_of(refused, Drawn(*[1001] * 16))  # 3 MiB each
    assert peak < 10


def test_images_of_another_shape_do_not_wait_in_line():
    source = Drawn(*[8] * 30, *[1000] * 29)
    (images, decoding), peak = peak_of(decode_to_memory, source, range(59), 4, None)
    assert (len(images), decoding.odd) == (30, {index: (3, 1000, 1000) for index in range(30, 59)})
    assert peak < 20


def test_facts_cost_little_more_than_the_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 2000, 2000), dtype=np.uint8)
    facts, peak = peak_of(facts_of, image)
    assert not facts.constant
    assert peak < 20  # of 11 MiB


@pytest.mark.parametrize(("level", "spread"), [(0, 0), (3, 1), (100, 1.9), (100, 2.1), (252, 1), (255, 0)])
def test_facts_are_those_of_all_values(level, spread):
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(level, spread, (3, 90, 110)).round(), 0, 255).astype(np.uint8)
    facts = facts_of(image)
    assert facts.constant == (max(channel.std() for channel in image) < 2)
    assert facts.dark == ((image < 16).mean() >= 0.99)
    assert facts.bright == ((image > 239).mean() >= 0.99)


def test_a_budget_is_never_exceeded_but_by_one_alone():
    budget, lock = PixelBudget(100), threading.Lock()
    running: list[int] = []
    sums: list[int] = []

    def work(pixels):
        with budget.item():
            budget.claim(pixels)
            with lock:
                running.append(pixels)
                sums.append(sum(running))
            time.sleep(0.002)
            with lock:
                running.remove(pixels)

    sizes = [30, 50, 500, 10, 70, 40, 300, 20, 60] * 3
    threads = [threading.Thread(target=work, args=(size,), daemon=True) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(sums) == len(sizes)
    assert {total for total in sums if total > 100} == {500, 300}
    assert max(total for total in sums if total <= 100) > 70  # small ones do go together


def test_large_images_are_decoded_few_at_a_time(readers, folder, tmp_path, monkeypatch):
    """The images of the fixture have 256 pixels each; there is room for two."""
    monkeypatch.setattr(parallel.budget, "_limit", 600)
    decode, at_once, most = decode_module._decode, 0, 0
    lock = threading.Lock()

    def watched(file, shown):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.005)
        result = decode(file, shown)
        with lock:
            at_once -= 1
        return result

    monkeypatch.setattr(decode_module, "_decode", watched)
    assert prepare(PrepareConfig(str(folder), tmp_path / "x.zip", 8, workers=6), readers).written == 6
    with open_source(str(folder), readers) as source:
        examine(source, workers=6)
    assert most == 2


def test_large_results_wait_in_a_shorter_line(monkeypatch):
    monkeypatch.setattr(parallel, "PIXELS_AT_ONCE", 1000)
    begun = []
    results = ordered_map(begun.append, range(100), 4, 300)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 4
    results.close()
    begun.clear()
    assert len(list(ordered_map(begun.append, range(20), 4, 10**9))) == 20


def test_images_that_wait_in_line_are_counted_by_their_size(readers, folder, tmp_path, monkeypatch):
    sizes = []

    def watched(function, items, workers, result_pixels=0):
        sizes.append(result_pixels)
        return ordered_map(function, items, workers, result_pixels)

    for module in (prepare_module, decode_all_module):
        monkeypatch.setattr(module, "ordered_map", watched)
    prepare(PrepareConfig(str(folder), tmp_path / "x.zip", size=(8, 12)), readers)
    with open_source(str(folder), readers) as source:
        decode_to_memory(source, range(6), 1, None)
    assert sizes == [8 * 12, 16 * 16]


@pytest.fixture
def scarce(monkeypatch):
    """From the fourth image on there is no memory left."""
    decode, count = decode_module._decode, 0

    def fail(file, shown):
        nonlocal count
        count += 1
        if count > 4:
            raise MemoryError
        return decode(file, shown)

    monkeypatch.setattr(decode_module, "_decode", fail)


def test_a_lack_of_memory_is_not_the_fault_of_an_image(readers, folder, tmp_path, scarce, monkeypatch):
    config = PrepareConfig(str(folder), tmp_path / "x.zip", 8, workers=1)
    with pytest.raises(DataError, match="not enough memory") as error:
        prepare(config, readers)
    assert "--workers 1" in error.value.hint
    assert not (tmp_path / "x.zip").exists()
    assert "reason" not in (tmp_path / ".x.zip.partial.jsonl").read_text()
    monkeypatch.undo()
    report = prepare(config, readers)
    assert (report.written, report.left_out) == (6, [])
    assert report.continued_from > 0


def test_a_lack_of_memory_ends_check_and_decoding(readers, folder, scarce):
    with open_source(str(folder), readers) as source:
        for work in (lambda: examine(source), lambda: decode_to_memory(source, range(6), 1, None)):
            with pytest.raises(DataError, match="not enough memory"):
                work()


def test_memory_of_large_images_goes_back_to_the_system():
    """As it does in blocks of more than 32 MiB; of smaller ones, each thread would keep what its largest image took."""
    assert Image.core.get_block_size() > 32 * MIB
