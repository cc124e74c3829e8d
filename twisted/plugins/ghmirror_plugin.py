"""Registers the `ghmirror` command of twistd."""

from twisted.application.service import ServiceMaker

ghmirror = ServiceMaker(
    "ghmirror", "ghmirror_tw.tap", "A caching reverse proxy for the GitHub API.", "ghmirror"
)
