"""Asking a proxy for a tunnel, and what its answer means (RFC 9110, section 9.3.6: CONNECT)."""

from __future__ import annotations

import base64
import re
from typing import Final

from attrs import field, frozen

#: A proxy that says more before the tunnel is open talks of something else, in bytes.
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

#: 401 is for origins, but some proxies say it to a wrong password.
_WANTS_A_PASSWORD: Final = frozenset({401, 407})


class TunnelError(Exception):
    """There is no tunnel; *why* says what the proxy did, without any password."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@frozen
class OutboundProxy:
    """Where a proxy is, and who to be for it; *host* is bare of brackets."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """How logs call it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def _basic(self) -> bytes:
        """The credentials (RFC 7617), or nothing."""
        if not self.username and not self.password:
            return b""
        return base64.b64encode(f"{self.username}:{self.password}".encode())

    def request(self, host: str, port: int) -> bytes:
        """Return what asks for a tunnel to *port* of *host*, which is bare of brackets."""
        bracketed = f"[{host}]" if ":" in host else host
        authority = f"{bracketed}:{port}".encode("ascii")
        lines = [b"CONNECT %s HTTP/1.1" % authority, b"Host: %s" % authority]
        if self._basic:
            lines.append(b"Proxy-Authorization: Basic %s" % self._basic)
        return b"\r\n".join((*lines, b"", b""))

    def opened(self, received: bytes, *, sealed: bool) -> bool:
        """Tell whether the tunnel is open, by what was *received*; False: there is more to come.

        The origin says nothing before it is asked, so whatever follows the answer comes from the
        proxy and is never taken for the origin's. Content that is only announced is ignored, as
        the standard wants it, where TLS keeps it apart (*sealed*).

        Raises NoTunnel.
        """
        while True:
            end = _END.search(received)
            if end is None:
                if received[: len(_BEGINNING)] != _BEGINNING[: len(received)]:
                    raise TunnelError("its answer to CONNECT is no HTTP/1.1")
                if len(received) > MOST_RESPONSE_BYTES:
                    raise TunnelError("its answer to CONNECT has no end")
                return False
            head, rest = received[: end.start()], received[end.end() :]
            found = _STATUS.match(head)
            if found is None:
                raise TunnelError("its answer to CONNECT is no HTTP/1.1")
            status = int(found[1])
            if not _INTERIM <= status < _SUCCESS:
                break
            received = rest
        if not _SUCCESS <= status < _REDIRECTION:
            raise TunnelError(self._refusal(status, found[2] or b""))
        if rest or (not sealed and _CONTENT.search(head)):
            raise TunnelError(f"it said {status} to CONNECT, and then content of its own")
        return True

    def _refusal(self, status: int, phrase: bytes) -> str:
        """Return what the proxy said, in words that are fit for a log."""
        text = _UNPRINTABLE.sub(b"?", phrase).decode("ascii").strip()
        for secret in filter(None, (self.password, self._basic.decode("ascii"))):
            text = text.replace(secret, "***")
        said = f"it answered CONNECT with {status} {text[:_LONGEST_PHRASE]}".rstrip()
        if status == _DENIED:
            return f"{said}: it does not allow this host or port"
        if status in _WANTS_A_PASSWORD:
            given = "another user or password" if self._basic else "a user and a password"
            return f"{said}: it wants {given}"
        return said
