"""Lets `python -m ghmirror_tw.cli` run the command."""

from ghmirror_tw.cli.main import main

if __name__ == "__main__":
    main()
