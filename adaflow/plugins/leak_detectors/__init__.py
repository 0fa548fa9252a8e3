"""Built-in leak detectors."""
