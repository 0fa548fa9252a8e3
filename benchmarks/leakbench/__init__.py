"""LeakBench: fakes made from held-out reals, with known leaks, and what `adaflow leakcheck` says of them."""
