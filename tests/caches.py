"""What the tests of the cache of decoded images share: one use of a cache, with what it said and read."""

import numpy as np

from adaflow.core.data.cache import FOLDER, ImageCache
from adaflow.plugins.datasets.folder import FolderSource
from tests.images import pixels, save


class Counted(FolderSource):
    """A folder that counts how many images are read."""

    def __init__(self, folder):
        super().__init__(folder)
        self.reads = 0

    def read(self, index):
        self.reads += 1
        return super().read(index)


class Opened:
    """What a cache gave, what it said, and how many images were read for it."""

    def __init__(self, path, kind=Counted, source=None, **options):
        self.said: list[str] = []
        self.source = source or kind(path)
        self.cached = ImageCache(path, self.source).load(2, None, self.said.append, **options)

    @property
    def built(self):
        return any(text.startswith("Decoding") for text in self.said)

    def holds(self, *seeds):
        """Whether these are the images, in this order."""
        expected = [pixels(seed).transpose(2, 0, 1) for seed in seeds]
        return self.cached is not None and np.array_equal(self.cached.pixels, expected)


SEEDS = (0, 2, 4, 1, 3, 5)
"""Of the images in `folder`, in order of their names."""


def kept(folder):
    """Names in the cache folder but for locks, without what is random in them."""
    return sorted(path.name.partition("~")[0] + path.suffix for path in folder.iterdir() if path.suffix != ".lock")


def the_file(folder, suffix):
    (path,) = (folder / FOLDER).glob(f"*{suffix}")
    return path


def change_an_image(folder):
    save(folder, "a/2.png", pixels(77))
    return (0, 77, 4, 1, 3, 5)
