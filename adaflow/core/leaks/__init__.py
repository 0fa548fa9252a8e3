"""How augmentations are found in images: traces, a probe for them, and shares of a mixture."""
