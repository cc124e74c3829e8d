"""Errors of connections that could not be opened, and their texts for logs."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from ghmirror_tw.http.response_parser import OverLimitError
from ghmirror_tw.runtime.verified_tls import ServerIdentityError


class ProxyError(ConnectError):
    """The proxy did not open a tunnel; the text names it and the reason, without its password."""

    def __init__(self, text: str) -> None:
        super().__init__(string=text)  # type: ignore[no-untyped-call]
        self.text = text

    def __str__(self) -> str:
        return self.text


def tls_error_text(error: BaseException) -> str | None:
    """Return why TLS with a server failed; None: the error is not about TLS."""
    for reason in (error, *(failure.value for failure in getattr(error, "reasons", ()))):
        if isinstance(reason, ServerIdentityError):
            return str(reason)
        if isinstance(reason, SSL.Error):
            words = [part[-1] for part in reason.args[0]] if reason.args else []
            text = ", ".join(filter(None, words)) or "the connection was lost"
            hint = " (is its authority in [github] ca_path?)" if "verify" in text else ""
            return f"TLS failed: {text}{hint}"
    return None


def exceeded_limit(failure: Failure) -> str:
    """Return which limit of the mirror a response has exceeded; empty: none."""
    for reason in getattr(failure.value, "reasons", ()):
        if reason.check(OverLimitError):
            return str(reason.getErrorMessage())
    return ""


def connection_error_text(error: BaseException) -> str:
    """Return why a connection could not be opened."""
    return tls_error_text(error) or Failure(error).getErrorMessage() or repr(error)
