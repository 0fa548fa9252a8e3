"""What is timed. Each module has `cases(options)`, or `results(options)` where it takes no stopwatch."""
