"""Content that is in memory already, with the interface of content that is still received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from ghmirror_tw.upstream.byte_budget import GrowingReservation


@define(eq=False)
class InMemoryContent:
    """Content in memory in full, which can be collected or streamed again and again."""

    content: bytes = field(repr=False)
    is_delimited: bool = True

    @property
    def length(self) -> int | None:
        """The length in bytes."""
        return len(self.content)

    def collect(
        self,
        limit_bytes: int,
        coding: bytes = b"",  # noqa: ARG002 - it is in memory as it is
        reservation: GrowingReservation | None = None,  # noqa: ARG002 - as well
    ) -> Deferred[bytes | None]:
        """Return the content, or None where it is longer than *limit_bytes*."""
        return succeed(self.content if len(self.content) <= limit_bytes else None)

    def stream_to(self, sink: Callable[[bytes], None]) -> Deferred[bool]:
        """Pass the content to *sink*."""
        sink(self.content)
        return succeed(True)

    def abort(self) -> None:
        """Do nothing: the exchange has ended."""

    def pauseProducing(self) -> None:
        """Do nothing: the exchange has ended."""

    def resumeProducing(self) -> None:
        """Do nothing: the exchange has ended."""

    def stopProducing(self) -> None:
        """Do nothing: the exchange has ended."""


@define(eq=False)
class EmptyContent(InMemoryContent):
    """The content of a response that has none: it is complete with its fields."""

    content: bytes = b""

    def stream_to(self, sink: Callable[[bytes], None]) -> Deferred[bool]:  # noqa: ARG002
        """Pass nothing."""
        return succeed(True)


EMPTY_CONTENT: Final = EmptyContent()
