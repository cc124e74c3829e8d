"""The access log: one line for each request, without its query and without credentials."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from attrs import define, field
from twisted.logger import Logger

from ghmirror_tw.github.path_credentials import without_credentials
from ghmirror_tw.http.target_memo import memoised_by_target
from ghmirror_tw.telemetry.logs import scrub

#: The longest path and the longest method in the log.
_PATH_LENGTH: Final = 2048
_METHOD_LENGTH: Final = 32

#: Visible ASCII is logged as it is; all other bytes are percent-encoded.
_ESCAPES: Final = {code: f"%{code:02X}" for code in (*range(0x21), *range(0x7F, 0x100))}

_SERVER_ERROR: Final = 500
#: The usual methods, which are logged as they are.
_METHODS: Final = {
    each: each.decode()
    for each in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
}


def _visible(value: bytes) -> str:
    return value.decode("latin-1").translate(_ESCAPES)


def shown_path(target: bytes) -> str:
    """Return the path of a request target in a form that is safe to log or show.

    Query, authority and userinfo are removed. Credentials are scrubbed, also percent-encoded ones.
    The result is visible ASCII of at most 2 kB.
    """
    return _shown(target[: 4 * _PATH_LENGTH].partition(b"?")[0].partition(b"#")[0])


@memoised_by_target
def _shown(path: bytes) -> str:
    if not path.startswith(b"/"):
        _, scheme, rest = path.partition(b"://")
        path = b"/" + rest.partition(b"/")[2] if scheme else path
    path = without_credentials(path)
    text = _visible(path)
    if b"%" in path:
        decoded = unquote_to_bytes(path).decode("latin-1")
        if scrub(decoded) != decoded:
            text = _visible(scrub(decoded).encode("latin-1"))
    text = scrub(text)
    return text if len(text) <= _PATH_LENGTH else text[: _PATH_LENGTH - 3] + "..."


@define(eq=False)
class AccessLog:
    """Logs all requests, those that failed, or none."""

    access: Literal["all", "errors", "none"] = "all"
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.access"))

    def request(  # noqa: PLR0913 - a line has six values
        self,
        method: bytes,
        path: str,
        status: int,
        outcome: str,
        *,
        seconds: float,
        login: str | None = None,
    ) -> None:
        """Log a request that ended after *seconds*, with a response or without.

        *path*: the result of `shown_path`.
        """
        if self.access == "none":
            return
        if self.access == "errors" and status < _SERVER_ERROR and outcome != "error":
            return
        shown_method = _METHODS.get(method) or scrub(_visible(method[:_METHOD_LENGTH]))
        milliseconds = round(seconds * 1000, 1)
        shown_login = _visible(login.encode("latin-1", "replace")) if login else "-"
        self._log.info(
            "{log_text}",  # formatting the rest here takes a fraction of the time
            log_text=f"{shown_method} {path} {status} {outcome} {milliseconds} ms {shown_login}",
            method=shown_method,
            path=path,
            status=status,
            outcome=outcome,
            milliseconds=milliseconds,
            login=shown_login,
        )
