"""An outbound proxy, and the tunnel that it opens by CONNECT (RFC 9110, section 9.3.6)."""

from __future__ import annotations

import base64
import re
from typing import Final

from attrs import field, frozen

#: The largest response to CONNECT, in bytes.
MOST_RESPONSE_BYTES: Final = 16 * 1024
_LONGEST_PHRASE: Final = 100
_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r?(?:\n|\Z)")
_BEGINNING: Final = b"HTTP/1."

#: Fields that announce content (RFC 9112, section 6).
_CONTENT: Final = re.compile(
    rb"\n(?:Transfer-Encoding[ \t]*:|Content-Length[ \t]*:[ \t]*0*[1-9])", re.IGNORECASE
)

_UNPRINTABLE: Final = re.compile(rb"[^\x20-\x7e]")
_INTERIM: Final = 100
_SUCCESS: Final = 200
_REDIRECTION: Final = 300
_DENIED: Final = 403

#: 401 is for origins, but some proxies send it for a wrong password.
_REQUIRES_PASSWORD: Final = frozenset({401, 407})


class TunnelError(Exception):
    """The proxy opened no tunnel; *reason* is for logs, without any password."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen
class OutboundProxy:
    """The address and credentials of a proxy; *host* is without brackets."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The address, as in logs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def _basic(self) -> bytes:
        """The credentials for Basic authentication (RFC 7617); may be empty."""
        if not self.username and not self.password:
            return b""
        return base64.b64encode(f"{self.username}:{self.password}".encode())

    def connect_request(self, host: str, port: int) -> bytes:
        """Return the request for a tunnel to *host*, which is without brackets, and *port*."""
        bracketed = f"[{host}]" if ":" in host else host
        authority = f"{bracketed}:{port}".encode("ascii")
        lines = [b"CONNECT %s HTTP/1.1" % authority, b"Host: %s" % authority]
        if self._basic:
            lines.append(b"Proxy-Authorization: Basic %s" % self._basic)
        return b"\r\n".join((*lines, b"", b""))

    def is_open(self, received: bytes, *, sealed: bool) -> bool:
        """Return whether the tunnel is open, by the bytes *received*; False: more bytes are needed.

        The origin sends nothing before a request, so bytes after the response are the proxy's, and
        an error. Content that is only announced is ignored, as RFC 9110 requires, if TLS separates
        it from the origin's bytes (*sealed*). Raises `TunnelError`.
        """
        while True:
            end = _END.search(received)
            if end is None:
                if received[: len(_BEGINNING)] != _BEGINNING[: len(received)]:
                    raise TunnelError("its response to CONNECT is no HTTP/1.1")
                if len(received) > MOST_RESPONSE_BYTES:
                    raise TunnelError("its response to CONNECT is too long")
                return False
            head, rest = received[: end.start()], received[end.end() :]
            found = _STATUS.match(head)
            if found is None:
                raise TunnelError("its response to CONNECT is no HTTP/1.1")
            status = int(found[1])
            if not _INTERIM <= status < _SUCCESS:
                break
            received = rest
        if not _SUCCESS <= status < _REDIRECTION:
            raise TunnelError(self._refusal(status, found[2] or b""))
        if rest or (not sealed and _CONTENT.search(head)):
            raise TunnelError(f"it responded to CONNECT with {status} and content of its own")
        return True

    def _refusal(self, status: int, phrase: bytes) -> str:
        """Return the reason of a refusal, for logs: printable, and without the password."""
        text = _UNPRINTABLE.sub(b"?", phrase).decode("ascii").strip()
        for secret in filter(None, (self.password, self._basic.decode("ascii"))):
            text = text.replace(secret, "***")
        reason = f"it responded to CONNECT with {status} {text[:_LONGEST_PHRASE]}".rstrip()
        if status == _DENIED:
            return f"{reason}: it does not allow this host or port"
        if status in _REQUIRES_PASSWORD:
            required = "another user or password" if self._basic else "a user and a password"
            return f"{reason}: it requires {required}"
        return reason
