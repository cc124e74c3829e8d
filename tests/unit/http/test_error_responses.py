"""The mirror's own error responses have the form of GitHub's, and reveal nothing else."""

import json
import re
from http import HTTPStatus

import pytest

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.cache_status import cache_status
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.outcomes import Outcome

ALL = [
    (error_responses.malformed("The Host field names no host"), 400, "malformed"),
    (error_responses.no_such_path("Not Found: the path has an empty segment"), 404, "no-such-path"),
    (error_responses.no_credential(), 401, "no-credential"),
    (error_responses.not_allowed(), 403, "not-allowed"),
    (error_responses.too_large(2 << 30), 413, "too-large"),
    (error_responses.unexpected_content(), 413, "unexpected-content"),
    (error_responses.unexpected_host(), 421, "unexpected-host"),
    (error_responses.target_too_long(16384), 414, "target-too-long"),
    (error_responses.fields_too_large(16384, 65536, 100), 431, "fields-too-large"),
    (error_responses.internal(), 500, "internal"),
    (error_responses.not_implemented("The transfer coding is unknown"), 501, "not-implemented"),
    (error_responses.upstream_failed("connect-error"), 502, "connect-error"),
    (error_responses.upstream_failed("broken-answer"), 502, "broken-answer"),
    (error_responses.over_own_limit("[cache] max_stored_size = 8MiB"), 502, "broken-answer"),
    (error_responses.upstream_error("timeout", "[github] timeout = 30s"), 504, "timeout"),
    (error_responses.upstream_error("connect-error", ""), 502, "connect-error"),
    (error_responses.too_slow(60.0), 408, "too-slow"),
    (error_responses.reserved(100, 99, 1312), 503, "reserve"),
    (error_responses.shutting_down(5), 503, "shutting-down"),
    (
        error_responses.overloaded("[github] max_in_flight_per_credential = 80", 7),
        503,
        "overloaded",
    ),
    (error_responses.no_permit("This credential has 80 requests under way", 7), 503, "overloaded"),
    (error_responses.timed_out("[github] idle_timeout = 60s"), 504, "timeout"),
    (error_responses.backed_off(4), 503, "timeout"),
    (error_responses.loop(), 508, "loop"),
]


@pytest.mark.parametrize(("error", "status", "reason"), ALL)
def test_each_error(error: MirrorError, status: int, reason: str) -> None:
    """Each has its status, a reason that is a bare token, and JSON like GitHub's."""
    assert HTTPStatus(error.status) == status
    assert error.reason == reason
    assert re.fullmatch("[a-z-]+", reason)
    assert cache_status(Outcome.ERROR, detail=reason).endswith(b"=" + reason.encode())
    assert json.loads(error.body()) == {
        "message": error.message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (error_responses.too_slow(60.0), "60s"),
        (error_responses.too_large(2 << 30), "[server] max_request_size = 2GiB"),
        (error_responses.target_too_long(16384), "16384 bytes"),
        (error_responses.fields_too_large(16384, 65536, 100), "16384 bytes"),
        (error_responses.fields_too_large(16384, 65536, 100), "65536"),
        (error_responses.no_credential(), "[server] allowed_users"),
        (error_responses.not_allowed(), "[server] allowed_users"),
        (error_responses.upstream_failed("connect-error"), "[github] api_url"),
        (error_responses.upstream_error("broken-answer", "[x] y = 1"), "[x] y = 1"),
        (
            error_responses.upstream_error("timeout", "[github] timeout = 30s"),
            "[github] timeout = 30s",
        ),
        (
            error_responses.overloaded("[github] max_connections = 100", 7),
            "[github] max_connections = 100",
        ),
        (error_responses.overloaded("[github] max_connections = 100", 7), "in 7 s"),
        (
            error_responses.no_permit("This credential has 80 requests", 7),
            "80 requests; retry in 7 s",
        ),
        (
            error_responses.byte_budget_exhausted("large", "[memory] max_content_size = 1MiB", 5),
            "max_content_size = 1MiB",
        ),
        (error_responses.byte_budget_exhausted("large", "16MiB", 5), "in 5 s"),
        (error_responses.reserved(100, 99, 1312), "[github] reserve = 100"),
        (error_responses.reserved(100, 99, 1312), "1312 s"),
        (error_responses.loop(), "[github] api_url"),
        (error_responses.unexpected_host(), "[server] admin_hosts"),
        (error_responses.shutting_down(5), "in 5 s"),
    ],
)
def test_each_message_names_the_remedy(error: MirrorError, words: str) -> None:
    """A message names the option or the number that it is about."""
    assert words in error.message


def test_retry_after_is_bounded() -> None:
    """Clients sleep for all of it, and retry at once without it."""
    assert error_responses.overloaded("x", 3600).retry_after == error_responses.LONGEST_RETRY_S
    assert error_responses.reserved(100, 0, 3600).retry_after == error_responses.LONGEST_RETRY_S
    assert error_responses.backed_off(300).retry_after == error_responses.LONGEST_RETRY_S


def test_retry_after_of_each_error() -> None:
    """Only what passes by itself names a time, in seconds."""
    named = {
        error.reason: error.retry_after for error, _, _ in ALL if error.retry_after is not None
    }
    assert named == {"shutting-down": 5, "overloaded": 7, "reserve": 60, "timeout": 4}


def test_any_message_is_ascii_json() -> None:
    """A message that repeats what a client sent can't break out of the content."""
    body = error_responses.malformed('"é\r\n').body()
    assert body.isascii()
    assert b"\n" not in body
    assert json.loads(body)["message"] == '"é\r\n'


def test_an_error_can_be_raised_and_chained() -> None:
    """It is an exception with a cause and a traceback, and its text is the reason."""
    cause = ValueError("cause")
    with pytest.raises(MirrorError, match="too large") as raised:
        raise error_responses.too_large(2 << 30) from cause
    assert raised.value.__cause__ is cause
    # A caller may remove the traceback of an exception, frozen or not.
    raised.value.__traceback__ = None
    assert raised.value.with_traceback(None) is raised.value
