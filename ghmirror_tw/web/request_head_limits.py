"""Limits of request heads: bytes, lines and memory, in Twisted's channel that parses them.

Requests that cannot be parsed are refused before there is a request (RFC 9112), with a JSON body
as GitHub sends it. A head has limits of bytes and of lines, and its memory is counted.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.web.http import HTTPChannel, Request

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.http.targets import check_request_line
from ghmirror_tw.runtime.whole_numbers import MAX_DIGITS, whole_number
from ghmirror_tw.upstream.byte_budget import Reservation

#: The largest number of field lines in a head. Apache and Envoy have the same limit by default,
#: HAProxy 101. Twisted takes 2 microseconds for a field.
MOST_FIELD_LINES: Final = 100
#: The memory that a field line takes besides its bytes.
FIELD_BYTES: Final = 256
#: The memory of a head with more bytes is counted until the end of its request.
LARGE_HEAD_BYTES: Final = 16 * 1024


class HeadLimitingChannel(HTTPChannel):
    """Parses requests, and refuses heads that are malformed or too large."""

    transport: Any
    factory: Any
    #: Whether bytes of a request have been received.
    request_begun = False
    #: Whether all further input is dropped.
    _drops_input = False
    #: The number of field lines received of this head.
    _field_lines = 0
    #: The bytes of the head, while it is incomplete, or if it is large.
    _head_reservation: Reservation | None = None

    def refuse(self, error: MirrorError) -> None:
        """Respond with *error* and close the connection."""
        raise NotImplementedError

    # The memory of heads. The idle timeout does not bound it: a slow client keeps it for long.

    @property
    def is_in_head(self) -> bool:
        """Whether the head of a request is incomplete."""
        reading = self.line_mode and self.request_begun
        return bool(reading) and not (self._handlingRequest or self._drops_input)

    @property
    def _head_size(self) -> int:
        """About how much memory the parsed head takes, in bytes."""
        return int(self._receivedHeaderSize) + FIELD_BYTES * int(self._receivedHeaderCount)

    def count_incomplete_head(self) -> None:
        """Count the bytes of an incomplete head."""
        self.factory.incomplete_heads.setdefault(self)
        self.count_head(self._head_size + len(self._buffer))

    def count_head(self, size: int) -> None:
        """Count *size* bytes of a head, or of the data behind it."""
        if self._head_reservation is None:
            self._head_reservation = self.factory.budgets.heads.charge(0)
        self._head_reservation.resize(size)
        self.factory.bound_heads()

    def release_head(self) -> None:
        """Release the bytes of a head."""
        reservation, self._head_reservation = self._head_reservation, None
        if reservation is not None:
            reservation.release()
            self.factory.incomplete_heads.pop(self, None)

    def finish_head(self) -> bool:
        """Count a complete head if it is large; return whether there is room for it."""
        size = self._head_size
        self.release_head()
        if size > LARGE_HEAD_BYTES:
            self.count_head(size)
            return not self.factory.is_short_of_heads
        return True

    # Hooks of Twisted's parser, which would respond 400 without content, or not at all.

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(
            error_responses.malformed(
                "The request is malformed: its request line, a field line, its length or its chunks"
                " do not conform to RFC 9112"
            )
        )

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002
        """Refuse a request line or a field line that is too long."""
        if hasattr(self, "_command"):
            self._refuse_large_head()
        else:
            self.refuse(error_responses.target_too_long(self.MAX_LENGTH))

    def _refuse_large_head(self) -> None:
        self.refuse(
            error_responses.fields_too_large(
                self.MAX_LENGTH, self.totalHeadersSize, MOST_FIELD_LINES
            )
        )

    def lineReceived(self, line: bytes) -> Any:
        """Parse a line, unless the head is too large."""
        # Also by an empty line, one of which may precede a request (RFC 9112, section 2.2).
        self.request_begun = True
        has_request_line = hasattr(self, "_command")
        self._field_lines = self._field_lines + bool(line) if has_request_line else 0
        if (
            self._receivedHeaderSize + len(line) > self.totalHeadersSize
            or self._field_lines > MOST_FIELD_LINES
        ):
            return self._refuse_large_head()
        if has_request_line and line[:1] in {b" ", b"\t"}:
            # Another parser before the mirror may ignore it (RFC 9112, section 5.2).
            return self.refuse(error_responses.malformed("Field lines must not be folded"))
        if not has_request_line:
            try:
                check_request_line(line)
            except BadRequestError as error:
                return self.refuse(error_responses.malformed(error.message))
        return super().lineReceived(line)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            self.refuse(
                error_responses.not_implemented("Only the transfer coding chunked is supported")
            )
            self.length = None
            return False
        if header == b"Content-Length" and data.isdigit() and whole_number(data) is None:
            # Too many digits to be parsed: any length over the limit has the same effect.
            data = b"9" * MAX_DIGITS
        chosen: bool = super()._maybeChooseTransferDecoder(header, data)
        return chosen

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Return whether the connection may serve another request (RFC 9112, section 9.3)."""
        options = b",".join(request.requestHeaders.getRawHeaders(b"connection", [])).lower()
        persistent = version == b"HTTP/1.1" and b"close" not in [
            option.strip() for option in options.split(b",")
        ]
        if not persistent:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return persistent
