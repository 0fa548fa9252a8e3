"""Built-in plugins. They come in through the same hooks as anybody's."""
