"""Built-in controllers of the augmentation probability."""
