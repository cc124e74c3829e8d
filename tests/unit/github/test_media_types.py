"""Media types of GitHub in `Accept` and `Content-Type`."""

from __future__ import annotations

import pytest

from ghmirror_tw.github.media_types import (
    accepts_only_json,
    accepts_only_json_or_any,
    is_as_accepted,
    is_json,
)
from tests.rules.test_linear_time import grows_too_fast


@pytest.mark.parametrize(
    ("accept", "only_json", "or_any"),
    [
        (None, False, True),
        (b"application/json", True, True),
        (b"application/vnd.github+json;q=0.5, application/json", True, True),
        (b"*/*", False, True),
        (b"application/json, text/html", False, False),
    ],
)
def test_accept_that_names_only_json(accept: bytes | None, only_json: bool, or_any: bool) -> None:
    """Parameters of the media types do not matter."""
    assert accepts_only_json(accept) is only_json
    assert accepts_only_json_or_any(accept) is or_any


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        (None, False),
        (b"text/html", False),
        (b"application/vnd.github.html", True),
        (b"application/vnd.github.v3.HTML+json", True),
        (b"text/plain, application/vnd.github.html+json;q=0.5", True),
        (b"application/vnd.github.raw, text/html", False),
        (b"application/html.vnd.github", False),
        (b"application/vnd.github.raw;html", False),
    ],
)
def test_html_is_accepted_by_a_media_type_of_github_alone(
    accept: bytes | None, accepted: bool
) -> None:
    """Both words must be in one media type, in this order."""
    assert is_as_accepted(accept, b"text/html") is accepted


def test_a_long_accept_is_read_in_linear_time() -> None:
    """A client may repeat the beginning of GitHub's media types."""
    assert not grows_too_fast(
        lambda raw: is_as_accepted(raw.replace(b"a", b"vnd.github"), b"text/html")
    )


def test_json_of_a_user_is_not_githubs() -> None:
    """A media type such as `raw+json` is that of a file."""
    assert is_json(b"application/vnd.github.v3+json; charset=utf-8")
    assert not is_json(b"application/vnd.github.raw+json")
    assert not is_json(None)
