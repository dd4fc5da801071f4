"""`python -m postroom`."""

from postroom.entrypoints.cli import main

if __name__ == "__main__":
    main()
