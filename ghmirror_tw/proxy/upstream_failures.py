"""The error responses and log messages for failures of GitHub."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from ghmirror_tw.github.path_labels import path_pattern
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.quantity_formatting import duration
from ghmirror_tw.upstream.upstream_interface import UpstreamError

_log: Final = Logger(namespace="ghmirror.mirror")


def error_response(error: UpstreamError, timeout_s: float) -> MirrorError:
    """Return the error response where no response was received, or it broke off.

    *timeout_s* is that of the configuration.
    """
    limit = error.limit
    if error.reason == "timeout" and not limit:
        limit = f"[github] timeout = {duration(timeout_s)}"
    return error_responses.upstream_error(error.reason, limit)


def log_failure(request: Request, reason: str, why: str) -> None:
    """Log that GitHub sent no usable response."""
    _log.warn(
        "GitHub sent no usable response: method={method} path={path} reason={reason} error={why}",
        method=request.method.decode("ascii"),
        path=path_pattern(request.path),
        reason=reason,
        why=why,
    )
