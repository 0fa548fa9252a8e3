"""What is timed and measured, outside the tests."""
