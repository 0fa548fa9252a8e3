"""Built-in data set readers."""
