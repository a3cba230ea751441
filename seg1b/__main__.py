"""`python -m seg1b`."""

from seg1b.cli.app import main

if __name__ == "__main__":
    main()
