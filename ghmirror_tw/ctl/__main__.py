"""Lets `python -m ghmirror_tw.ctl` be the command, too."""

from ghmirror_tw.ctl.main import main

if __name__ == "__main__":
    main()
