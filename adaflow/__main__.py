"""`python -m adaflow`."""

from adaflow.cli import main

main()
