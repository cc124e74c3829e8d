"""The contents of tokens: the App that they name, and their hash in GitHub's audit log."""

from __future__ import annotations

import base64

import pytest

from ghmirror_tw.github.credentials import app_in, hashed_token
from ghmirror_tw.http.fields import Fields

INSTALLATION = b"ghs_4711_eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOjQ3MTF9.c2lnbmF0dXJlLW9mLWl0"


@pytest.mark.parametrize(
    ("token", "app"),
    [
        (INSTALLATION, "app:4711"),
        (b"ghs_16C7e42F292c6912E7710c838347Ae178B4a", ""),
        (b"ghs_0_eyJ", ""),
        (b"ghs_12345678901234567890_eyJ", ""),
        (b"ghu_4711_eyJ", ""),
        (b"x ghs_4711_eyJ", ""),
        (b"", ""),
    ],
)
def test_an_installation_token_names_its_app(token: bytes, app: str) -> None:
    """Older tokens, and those of users, name none."""
    assert app_in(token) == app


def test_the_hash_is_that_of_the_audit_log() -> None:
    """``printf TOKEN | openssl dgst -sha256 -binary | base64``, with any scheme."""
    token = b"ghp_0123456789abcdefghijABCDEFGHIJ012345"
    basic = b"Basic " + base64.b64encode(b"octocat:" + token)
    for value in (b"token " + token, b"Bearer " + token, basic):
        fields = Fields(((b"authorization", value),))
        assert hashed_token(fields) == "2P52tCi5nJHVEl+w1DwjsRC0a5ZdEmjxS5MCCMVCMqk="


@pytest.mark.parametrize(
    "token",
    [
        *(prefix + b"0123456789abcdefghijABCDEFGHIJ012345" for prefix in (b"gho_", b"ghu_")),
        INSTALLATION,
        b"github_pat_11AAAAAAA0aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbb",
        b"0123456789abcdef0123456789abcdef01234567",
        b"v1.0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_all_forms_of_tokens_have_a_hash(token: bytes) -> None:
    """Those of users, Apps and installations, new and old."""
    assert hashed_token(Fields(((b"authorization", b"token " + token),))) is not None


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Basic " + base64.b64encode(b"octocat:hunter2"),
        b"Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOjQ3MTF9.c2lnbmF0dXJl",
        b"Bearer hunter2",
        b"token ghp_short",
    ],
)
def test_other_credentials_have_none(authorization: bytes | None) -> None:
    """A password could be guessed from its hash."""
    lines = () if authorization is None else ((b"authorization", authorization),)
    assert hashed_token(Fields(lines)) is None
