"""One thread per test process: small tensors are slower on more, and results are the same everywhere."""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
