"""A site whose connections end with a test."""

from __future__ import annotations

from typing import Any

from twisted.web.server import Site


class ClosingSite(Site):
    """Closes its open connections on `close`, and writes no log."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.open: list[Any] = []

    def log(self, _request: object) -> None:
        return

    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = super().buildProtocol(addr)
        self.open.append(channel)
        return channel

    def close(self) -> None:
        for channel in self.open:
            transport = channel._channel.transport
            if transport is not None:
                transport.abortConnection()
