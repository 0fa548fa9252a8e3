"""What adaflow is timed against: plain compositions of torch operations, and kornia."""
