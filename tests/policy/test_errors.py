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
    (errors.no_credential(), 401, "no-credential"),
    (errors.not_allowed(), 403, "not-allowed"),
    (errors.too_large(), 413, "too-large"),
    (errors.target_too_long(), 414, "target-too-long"),
    (errors.fields_too_large(), 431, "fields-too-large"),
    (errors.internal(), 500, "internal"),
    (errors.not_implemented("The transfer coding is unknown"), 501, "not-implemented"),
    (errors.upstream_failed("connect-error"), 502, "connect-error"),
    (errors.unanswered("timeout"), 504, "timeout"),
    (errors.unanswered("server-error"), 502, "server-error"),
    (errors.shutting_down(5), 503, "shutting-down"),
    (errors.overloaded(7), 503, "overloaded"),
    (errors.timed_out(), 504, "timeout"),
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
    }


def test_when_to_come_again() -> None:
    """Only what passes by itself names a time, in seconds."""
    named = {
        error.reason: error.retry_after for error, _, _ in ALL if error.retry_after is not None
    }
    assert named == {"shutting-down": 5, "overloaded": 7}


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
        raise errors.too_large() from cause
    assert raised.value.__cause__ is cause
    # Whoever carries an exception about may take its traceback off, frozen or not.
    raised.value.__traceback__ = None
    assert raised.value.with_traceback(None) is raised.value
