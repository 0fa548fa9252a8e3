"""`python cli.py …` from a checkout: the same as `adaflow …`."""

from adaflow.cli import main

if __name__ == "__main__":
    main()
