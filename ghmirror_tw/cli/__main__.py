"""Lets `python -m ghmirror_tw.ctl` be the command, too."""

from ghmirror_tw.cli.main import main

if __name__ == "__main__":
    main()
