"""Golden arrays: the whole set where it lies beside the checkout, else the compact part in `tests/golden/`.

`ADAFLOW_GOLDEN` names another folder. Every file is an `.npz` without pickles whose `cases_json` describes its cases.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch

COMPACT = Path(__file__).parent / "golden"
WHOLE = Path(os.environ.get("ADAFLOW_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))


class Golden:
    """One golden file: `golden["key"]` is a torch tensor, `golden.cases` the list of case descriptions."""

    def __init__(self, name: str):
        folder = WHOLE if (WHOLE / f"{name}.npz").is_file() else COMPACT
        self.arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        self.cases = json.loads(str(self.arrays["cases_json"])) if "cases_json" in self.arrays else []

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key])

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def keys(self, prefix: str = "") -> list[str]:
        return [key for key in self.arrays.files if key.startswith(prefix)]
