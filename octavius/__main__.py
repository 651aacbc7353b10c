"""`python -m octavius` comes in, the command line runs."""

from octavius.cli import main

if __name__ == "__main__":
    main()
