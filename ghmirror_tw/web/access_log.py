"""The access log: one line for each request, without its query and without credentials."""

from __future__ import annotations

from json import dumps
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from attrs import define, field
from twisted.logger import Logger

from ghmirror_tw.github.credentials import hashed_token
from ghmirror_tw.github.path_redaction import without_credentials
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.target_memo import memoised_by_target
from ghmirror_tw.telemetry.secret_scrubbing import scrub

#: The longest path, method, `X-GitHub-Request-Id` and `User-Agent` in the log.
_PATH_LENGTH: Final = 2048
_METHOD_LENGTH: Final = 32
_ID_LENGTH: Final = 80
_AGENT_LENGTH: Final = 200
#: The values that a line has by key, in this order.
_BY_KEY: Final = (
    *("detail", "client", "bytes", "upstream_status", "upstream_ms", "hashed_token", "request_id"),
)
_NO_FIELDS: Final = Fields()

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
class LoggedRequest:
    """What the access log has of a request; None: unknown, or there is none.

    *path*: the result of `shown_path`. *seconds*: until its end, with a response or without. *size*
    is that of the content that was sent, in bytes. *detail* is that of `Cache-Status`, or why a
    request was forwarded. *user*: a login or an App. *request_id* is GitHub's, for its support.
    """

    method: bytes
    path: str
    status: int
    outcome: str
    seconds: float
    size: int = 0
    detail: str | None = None
    upstream_status: int | None = None
    upstream_seconds: float | None = None
    user: str | None = None
    client: str | None = None
    request_id: bytes | None = None
    fields: Fields = _NO_FIELDS

    def shown(self) -> dict[str, str | int | float | None]:
        """Return the values as they are logged, without credentials."""
        method, user, upstream_s = self.method, self.user, self.upstream_seconds
        request_id, fields = self.request_id, self.fields
        return {
            "method": _METHODS.get(method) or scrub(_visible(method[:_METHOD_LENGTH])),
            "path": self.path,
            "status": self.status,
            "outcome": self.outcome,
            "milliseconds": round(self.seconds * 1000, 1),
            "user": _visible(user.encode("latin-1", "replace")) if user else None,
            "detail": self.detail,
            "client": self.client,
            "bytes": self.size,
            "upstream_status": self.upstream_status,
            "upstream_ms": None if upstream_s is None else round(upstream_s * 1000, 1),
            "request_id": None if request_id is None else scrub(_visible(request_id[:_ID_LENGTH])),
            "hashed_token": fields.memoised(hashed_token),
            "user_agent": fields.memoised(_user_agent)[0],
        }


def _user_agent(fields: Fields) -> tuple[str | None, str]:
    """Return the `User-Agent` as it is logged in JSON and in text."""
    value = fields.get(b"user-agent")
    if value is None:
        return None, ""
    agent = scrub(value[:_AGENT_LENGTH].decode("latin-1"))
    return agent, f" user_agent={dumps(agent)}"


@define(eq=False)
class AccessLog:
    """Logs all requests, those that failed, or none.

    A line begins with method, path, status, outcome, time and user (``-``: unknown). The rest is
    ``key=value``; what is unknown is left out, and is null in JSON.
    """

    access: Literal["all", "errors", "none"] = "all"
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.access"))

    def request(self, request: LoggedRequest) -> None:
        """Log a request that has ended."""
        if self.access == "none":
            return
        failed = request.status >= _SERVER_ERROR or request.outcome == "error"
        if self.access == "errors" and not failed:
            return
        shown = request.shown()
        first = (
            f"{shown['method']} {shown['path']} {shown['status']} {shown['outcome']}"
            f" {shown['milliseconds']} ms {shown['user'] or '-'}"
        )
        rest = [f" {key}={value}" for key in _BY_KEY if (value := shown[key]) is not None]
        text = "".join((first, *rest, request.fields.memoised(_user_agent)[1]))
        # Formatting the text here takes a fraction of the time, and each value is safe already.
        self._log.info("{log_text}", log_text=text, log_scrubbed=shown)
