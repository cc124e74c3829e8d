"""Error responses for failures of GitHub."""

from __future__ import annotations

import pytest

from ghmirror_tw.proxy.upstream_failures import error_response
from ghmirror_tw.upstream.upstream_interface import UpstreamError


@pytest.mark.parametrize(
    ("error", "status", "limit"),
    [
        (UpstreamError("timeout", "late"), 504, "[github] timeout = 30s"),
        (UpstreamError("timeout", "late", limit="a limit"), 504, "a limit"),
        (UpstreamError("connect-error", "refused"), 502, "[github] api_url"),
        (UpstreamError("broken-answer", "long", limit="a limit"), 502, "a limit"),
    ],
)
def test_error_response_names_the_limit(error: UpstreamError, status: int, limit: str) -> None:
    """That of the configuration, or the one that was exceeded."""
    response = error_response(error, 30.0)
    assert response.status == status
    assert limit in response.message
