"""The mirror's own answers look like GitHub's and say nothing that they shouldn't."""

import json
import re
from http import HTTPStatus

import pytest

from ghmirror_tw.policy import errors
from ghmirror_tw.policy.cache_status import Outcome, cache_status
from ghmirror_tw.policy.errors import MirrorError

ALL = [
    (errors.malformed("The Host field names no host"), 400, "malformed"),
    (errors.no_such_path("Not Found: the path has an empty segment"), 404, "no-such-path"),
    (errors.no_credential(), 401, "no-credential"),
    (errors.not_allowed(), 403, "not-allowed"),
    (errors.too_large(2 << 30), 413, "too-large"),
    (errors.unexpected_content(), 413, "unexpected-content"),
    (errors.unexpected_host(), 421, "unexpected-host"),
    (errors.target_too_long(16384), 414, "target-too-long"),
    (errors.fields_too_large(16384, 65536), 431, "fields-too-large"),
    (errors.internal(), 500, "internal"),
    (errors.not_implemented("The transfer coding is unknown"), 501, "not-implemented"),
    (errors.upstream_failed("connect-error"), 502, "connect-error"),
    (errors.upstream_failed("broken-answer"), 502, "broken-answer"),
    (errors.over_own_limit("[cache] max_stored_size = 8MiB"), 502, "broken-answer"),
    (errors.unanswered("timeout", "[github] timeout = 30s"), 504, "timeout"),
    (errors.unanswered("connect-error", ""), 502, "connect-error"),
    (errors.too_slow(60.0), 408, "too-slow"),
    (errors.reserved(100, 99, 1312), 503, "reserve"),
    (errors.shutting_down(5), 503, "shutting-down"),
    (errors.overloaded("[github] max_in_flight_per_credential = 80", 7), 503, "overloaded"),
    (errors.timed_out("[github] idle_timeout = 60s"), 504, "timeout"),
    (errors.backed_off(4), 503, "timeout"),
    (errors.loop(), 508, "loop"),
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
        (errors.too_slow(60.0), "60s"),
        (errors.too_large(2 << 30), "[server] max_request_size = 2GiB"),
        (errors.target_too_long(16384), "16384 bytes"),
        (errors.fields_too_large(16384, 65536), "16384 bytes"),
        (errors.fields_too_large(16384, 65536), "65536"),
        (errors.no_credential(), "[server] allowed_users"),
        (errors.not_allowed(), "[server] allowed_users"),
        (errors.upstream_failed("connect-error"), "[github] api_url"),
        (errors.unanswered("broken-answer", "[x] y = 1"), "[x] y = 1"),
        (errors.unanswered("timeout", "[github] timeout = 30s"), "[github] timeout = 30s"),
        (errors.overloaded("[github] max_connections = 100", 7), "[github] max_connections = 100"),
        (errors.overloaded("[github] max_connections = 100", 7), "in 7 s"),
        (errors.no_room("large", "[memory] max_content_size = 1MiB", 5), "max_content_size = 1MiB"),
        (errors.no_room("large", "16MiB", 5), "in 5 s"),
        (errors.reserved(100, 99, 1312), "[github] reserve = 100"),
        (errors.reserved(100, 99, 1312), "1312 s"),
        (errors.loop(), "[github] api_url"),
        (errors.unexpected_host(), "[server] admin_hosts"),
        (errors.shutting_down(5), "in 5 s"),
    ],
)
def test_what_to_do(error: MirrorError, words: str) -> None:
    """A message names the option or the number that it is about."""
    assert words in error.message


def test_a_retry_is_never_far_away() -> None:
    """A client sleeps for as long as it is told, and would fail at once otherwise."""
    assert errors.overloaded("x", 3600).retry_after == errors.LONGEST_RETRY_S
    assert errors.reserved(100, 0, 3600).retry_after == errors.LONGEST_RETRY_S
    assert errors.backed_off(300).retry_after == errors.LONGEST_RETRY_S


def test_when_to_come_again() -> None:
    """Only what passes by itself names a time, in seconds."""
    named = {
        error.reason: error.retry_after for error, _, _ in ALL if error.retry_after is not None
    }
    assert named == {"shutting-down": 5, "overloaded": 7, "reserve": 60, "timeout": 4}


def test_any_message_is_ascii_json() -> None:
    """A message that repeats what a client sent can't break out of the content."""
    body = errors.malformed('"é\r\n').body()
    assert body.isascii()
    assert b"\n" not in body
    assert json.loads(body)["message"] == '"é\r\n'


def test_an_error_can_be_raised_and_chained() -> None:
    """It is an exception with a cause and a traceback, and tells what it is about."""
    cause = ValueError("cause")
    with pytest.raises(MirrorError, match="too large") as raised:
        raise errors.too_large(2 << 30) from cause
    assert raised.value.__cause__ is cause
    # Whoever carries an exception about may take its traceback off, frozen or not.
    raised.value.__traceback__ = None
    assert raised.value.with_traceback(None) is raised.value
