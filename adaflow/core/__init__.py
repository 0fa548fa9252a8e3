"""The core: networks, losses, augmentation, training, state, data. It imports no plugin."""
