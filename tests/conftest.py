"""One thread per test process: small tensors are slower on more, and results are the same everywhere."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.images", "tests.command_line")

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# A busy machine is no failure, and a property that fails must fail the next time, too.
settings.register_profile("adaflow", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("adaflow")


@pytest.fixture(scope="session")
def search():
    """A search for leaks in made-up traces."""
    from tests.drawn_traces import NAMES, learned

    return learned(NAMES)


@pytest.fixture(scope="session")
def alike():
    """One that has learned three transforms that look alike, and another one."""
    from tests.drawn_traces import ALIKE, learned

    return learned(ALIKE)
