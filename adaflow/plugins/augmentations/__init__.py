"""Built-in augmentations (arXiv 2006.06676, App. B) and the short names of their groups."""
