"""`python -m unlabeled`: the command line."""

from unlabeled.cli import main

if __name__ == "__main__":
    main()
