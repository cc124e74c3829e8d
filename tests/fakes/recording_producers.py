"""Producers that record the calls of their methods."""

from __future__ import annotations


class Producer:
    """Produces nothing."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        """Record the call."""
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """Record the call."""
        self.calls.append("resume")

    def stopProducing(self) -> None:
        """Record the call."""
        self.calls.append("stop")
